"""Keras 3 on JAX, as its documentation writes it.

`compile` and `fit` on arrays: https://keras.io/guides/training_with_built_in_methods/ and
https://keras.io/examples/vision/mnist_convnet/. The backend by KERAS_BACKEND:
https://keras.io/getting_started/. (Release 3.15.) `jit_compile="auto"` compiles with XLA on JAX.
Variants: `keras.config.set_dtype_policy("mixed_bfloat16")`
(https://keras.io/api/mixed_precision/policy/), and `steps_per_execution`, which
https://keras.io/api/models/model_training_apis/ recommends for small networks. Keras's order of
axes is NHWC, so pictures stay as they are stored.
"""

import os

os.environ["KERAS_BACKEND"] = "jax"  # before keras is imported

import jax
import keras
import keras_networks
import numpy as np
from task import EpochClock, answer, read_order, timed

VARIANTS = ("fp32", "bf16", "steps")
STEPS = 8  # batches in one call, in the variant of this name


class Clock(keras.callbacks.Callback):
    """Passes the ends of epochs on."""

    def __init__(self, clock: EpochClock) -> None:
        super().__init__()
        self.clock = clock

    def on_epoch_end(self, epoch: int, logs: object = None) -> None:
        """Note one."""
        self.clock.epoch_ended()


def main() -> None:
    """Train once and print the result."""
    order = read_order(VARIANTS)
    keras.utils.set_random_seed(order.seed)
    if order.variant == "bf16":
        keras.config.set_dtype_policy("mixed_bfloat16")
    task, clock = order.task, EpochClock()
    shape = task.train_images.shape[1:]
    model = keras_networks.build(task.model, shape, task.num_classes, task.model_args)
    trainable = sum(int(np.prod(weight.shape)) for weight in model.trainable_weights)
    assert trainable == task.parameters, f"{trainable} weights, not {task.parameters}"
    optimizers = {
        "sgd": keras.optimizers.SGD(task.lr),
        "adam": keras.optimizers.Adam(task.lr, epsilon=1e-8),  # PyTorch's
    }
    model.compile(
        optimizer=optimizers[task.optimizer],
        loss=keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        steps_per_execution=STEPS if order.variant == "steps" else 1,
    )
    x = task.scaled(task.train_images)

    def train() -> None:
        model.fit(
            x,
            task.train_labels,
            batch_size=task.batch_size,
            epochs=order.epochs,
            callbacks=[Clock(clock)],
            verbose=0,
        )

    seconds = timed(train, clock)
    logits = model.predict(task.scaled(task.test_images), batch_size=256, verbose=0)
    found = float((logits.argmax(1) == task.test_labels).mean())
    versions = f"keras {keras.__version__}, jax {jax.__version__}"
    answer("keras", versions, order, seconds=seconds, clock=clock, accuracy=found)


if __name__ == "__main__":
    main()
