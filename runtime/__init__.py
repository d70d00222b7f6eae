"""The run itself: devices, replicas, the plan of the steps, the clock, and how a run stops."""
