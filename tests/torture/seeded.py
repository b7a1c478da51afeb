"""Test the tests: put known defects back, one at a time, and require that a test turns red.

    python tests/torture/seeded.py [--write docs/reliability.md]

Twelve are the mistakes of the tutorials that nunbit grew out of, as they would look in this code;
ten are faults that a reliable trainer must not have. Each is made in a copy of the sources.
"""

import argparse
import os
import shutil
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[2]


@dataclass(frozen=True)
class Defect:
    """One change of the sources that some test must notice."""

    name: str
    file: str
    old: str
    new: str
    tests: str
    """What to run: a file of the tests, and perhaps -k and a word."""


DEFECTS = (
    # The twelve mistakes of the tutorials.
    Defect(
        "(a) the factor of L2 is added, not multiplied",
        "training/loss.py",
        "config.l2 * torch.stack",
        "config.l2 + torch.stack",
        "test_training.py -k l2",
    ),
    Defect(
        "(b) one residual block used n times",
        "models/net_resdeep.py",
        "*(ResBlock(width) for _ in range(1 if shared else blocks))",
        "*([ResBlock(width)] * (1 if shared else blocks))",
        "test_networks.py test_models.py -k resdeep",
    ),
    Defect(
        "(c) the optimizer holds another model's parameters",
        "training/optim.py",
        "trainable = [p for p in model.parameters() if p.requires_grad]",
        "trainable = [p for p in __import__('copy').deepcopy(model).parameters()]",
        "test_training.py -k optimizer",
    ),
    Defect(
        "(d) training unshuffled",
        "data/loader.py",
        "return torch.randperm(len(self.pictures), generator=torch.Generator().manual_seed(seed))",
        "return torch.arange(len(self.pictures))",
        "test_randomness.py",
    ),
    Defect(
        "(e) validating without eval()",
        "models/mode.py",
        "yield model.eval()",
        "yield model",
        "test_training.py -k evaluation",
    ),
    Defect(
        "(f) the last test batch is dropped",
        "evaluation.py",
        "for batch in batches(images, fitting(images.shape, batch_size)):",
        "for batch in [b for b in batches(images, batch_size) if len(b) == batch_size]:",
        "test_training.py -k evaluation",
    ),
    Defect(
        "(g) logging outside the loop",
        "running.py",
        "            log.add(result)\n",
        "            pass\n",
        "test_resume.py -k log_grows",
    ),
    Defect(
        "(h) a missing Flatten",
        "models/net.py",
        "        nn.Flatten(),\n",
        "",
        "test_models.py -k net-modules",
    ),
    Defect(
        "(i) model.forward(x)",
        "training/step.py",
        "logits_BK = state.model(x)",
        "logits_BK = state.model.forward(x)",
        "test_layering.py",
    ),
    Defect(
        "(j) torch.load of a file from outside",
        "storage.py",
        "tensors = safetensors.torch.load(data)",
        "tensors = torch.load(path, weights_only=False)",
        "test_layering.py test_storage.py",
    ),
    Defect(
        "(k) normalisation of all pictures instead of the training split",
        "data/splits.py",
        "mean, std = mean_and_std(train.images)",
        "mean, std = mean_and_std(test.images)",
        "test_sources.py -k digits",
    ),
    Defect(
        "(l) accuracy measured with dropout on",
        "models/mode.py",
        "yield model.eval()",
        "yield model.train()",
        "test_training.py -k evaluation",
    ),
    # Ten faults.
    Defect(
        "no fsync before the rename",
        "storage.py",
        "            os.fsync(file.fileno())\n",
        "",
        "test_faults.py -k power",
    ),
    Defect(
        "the target opened for writing in place of a rename",
        "storage.py",
        "        os.replace(temporary, path)\n",
        "        path.write_bytes(data[: len(data) // 2])\n"
        "        path.write_bytes(data)\n        temporary.unlink()\n",
        "test_faults.py -k operation",
    ),
    Defect(
        "the hash is not compared",
        "storage.py",
        "if digest(tensors, text) != expected:",
        "if False:",
        "test_storage.py -k flipped",
    ),
    Defect(
        "no lock",
        "lock.py",
        "fcntl.lockf(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)",
        "pass",
        "test_resume.py -k process",
    ),
    Defect(
        "the optimizer's state is not restored",
        "checkpoint.py",
        "state.optimizer.state[parameter][key] = like.copy_(value)",
        "pass",
        "test_faults.py -k positions",
    ),
    Defect(
        "dropout from torch's global generator",
        "training/step.py",
        'with seeded(train.seed, "step", state.step), plan.runtime.autocast():',
        "with plan.runtime.autocast():",
        "test_training.py -k dropout",
    ),
    Defect(
        "a resumed epoch starts at its first batch",
        "data/loader.py",
        "for step in range(first_step, steps):",
        "for step in range(steps):",
        "test_randomness.py -k middle",
    ),
    Defect(
        "an unreadable picture is replaced by a black one",
        "data/pixels.py",
        "            self.faults[i] = Skipped(self.pictures.names[i], str(error))\n",
        "            return np.zeros(self.shape[1:], np.uint8)\n",
        "test_sources.py -k bad_pictures",
    ),
    Defect(
        "the loss may be NaN",
        "training/step.py",
        "    stop_if_not_finite(total, state.step, lr, optim.lr)\n",
        "",
        "test_training.py -k finite",
    ),
    Defect(
        "EXIF rotation ignored",
        "data/decode.py",
        "is_upright = image.info.keys().isdisjoint(SAY_ORIENTATION)",
        "is_upright = True",
        "test_decode.py -k exif",
    ),
)


def source_of(defect: Defect) -> Path:
    """Return the file that a defect changes, below the root.

    Raises:
        AssertionError: the defect's line is not in it any more.
    """
    path = Path("src", "nunbit", defect.file)
    assert defect.old in (ROOT / path).read_text(), f"{defect.name}: {path} has no such line"
    return path


def is_caught(defect: Defect, folder: Path) -> bool:
    """Make the defect in a copy of the sources and return whether its tests turn red."""
    shutil.copytree(ROOT / "src", folder / "src", ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copytree(ROOT / "tests", folder / "tests", ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(ROOT / "pyproject.toml", folder)
    path = folder / source_of(defect)
    path.write_text(path.read_text().replace(defect.old, defect.new, 1))
    files = [w if not w.endswith(".py") else f"tests/{w}" for w in defect.tests.split()]
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-x", "-p", "no:cacheprovider", *files],
        cwd=folder,
        env=dict(os.environ, OMP_NUM_THREADS="1", PYTHONPATH=str(folder / "src")),
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode in (0, 1), f"{defect.name}: no test ran\n{done.stdout}{done.stderr}"
    return done.returncode == 1


def main() -> int:
    """Make each defect and print whether it was caught."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--write", type=Path, help="append the table to this Markdown file")
    words = parser.parse_args()
    rows = []
    for defect in DEFECTS:
        with tempfile.TemporaryDirectory() as folder:
            caught = is_caught(defect, Path(folder))
        rows.append((defect, caught))
        print(f"| {defect.name} | {'caught' if caught else 'NOT CAUGHT'} |", flush=True)
    number = sum(caught for _, caught in rows)
    print(f"{number} of {len(rows)} caught")
    if words.write:
        lines = [
            "## Seeded defects",
            "",
            "Each is put back into a copy of the sources, and a test must turn red.",
            "",
            "| defect | |",
            "| --- | --- |",
            *[f"| {d.name} | {'caught' if caught else 'NOT CAUGHT'} |" for d, caught in rows],
            "",
            f"{number} of {len(rows)}.",
            "",
        ]
        with words.write.open("a") as page:
            page.write("\n" + "\n".join(lines))
    return int(number < len(rows))


if __name__ == "__main__":
    sys.exit(main())
