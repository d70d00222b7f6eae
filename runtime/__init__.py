"""What a run runs on and by: devices, replicas, the plan of its steps, its clock, how it stops."""
