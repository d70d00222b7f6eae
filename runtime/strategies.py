"""What trains, by --strategy: one device, or replicas on several devices or machines."""

import tensorflow as tf

import flags
from common.errors import InputError
from runtime import gpu, workers
from runtime.replicas import OneDevice, Replicas


def start(config: flags.Config) -> OneDevice:
    """Returns what trains, by --strategy; call it before TensorFlow touches a device.

    Raises InputError if a batch is smaller than the number of replicas, there are fewer devices than --replicas, or
    the flags of the workers differ.
    """
    if config.strategy == "none":
        return OneDevice()
    replicas = _mirrored(config) if config.strategy == "mirrored" else workers.start(config)
    if config.batch_size < replicas.count:
        raise InputError(
            f"--batch_size={config.batch_size}: {replicas.count} replicas cannot share it; at least one each"
        )
    return replicas


def _mirrored(config: flags.Config) -> Replicas:
    gpus = gpu.usable(config.device)
    if gpus and config.replicas > len(gpus):
        raise InputError(
            f"--replicas={config.replicas}: there are {len(gpus)} GPUs; or use --device=cpu"
        )
    if not gpus:
        if not config.replicas:
            raise InputError(
                "--strategy=mirrored: there is no GPU; --replicas=2 splits the CPU in two"
            )
        parts = [tf.config.LogicalDeviceConfiguration()] * config.replicas
        tf.config.set_logical_device_configuration(tf.config.list_physical_devices("CPU")[0], parts)
    kind = "GPU" if gpus else "CPU"
    names = [device.name for device in tf.config.list_logical_devices(kind)]
    return Replicas(tf.distribute.MirroredStrategy(names[: config.replicas or None]))
