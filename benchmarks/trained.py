"""A training whose seconds and accuracy are wanted, and nothing else of it."""

import tempfile
from pathlib import Path

import nunbit
from nunbit.finished import Finished
from nunbit.values import Setting


def train_once(recipe: str, seed: int, **settings: Setting) -> Finished:
    """Train a recipe without checkpoints, in a folder that goes when the training ends.

    Training accuracy is measured on 1,000 pictures only, to save time.

    Args:
        recipe: the name of one.
        seed: of everything that is drawn.
        **settings: others than the recipe's.
    """
    with tempfile.TemporaryDirectory() as folder:
        return nunbit.train(
            recipe,
            run_dir=Path(folder) / "run",
            quiet=True,
            seed=seed,
            train_pictures=1000,
            checkpoint_every="off",
            **settings,
        )
