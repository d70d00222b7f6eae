"""train.py with a compiled step, which mode eager calls for each batch, as the README's loop does.

python -m benchmarks.by_hand --mode=eager
"""

import runpy

import tensorflow as tf

import model
from common.files import PROJECT

model.sgd_step = tf.function(model.sgd_step)
runpy.run_path(str(PROJECT / "train.py"), run_name="__main__")
