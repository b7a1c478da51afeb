"""The command line: one thin function per verb. Importing it never imports torch.

Each module of this package registers its commands when it is imported.
"""

from nunbit.cli import (  # noqa: F401  # they register their commands
    compare,
    doctor,
    explain,
    export,
    finetune,
    lists,
    lr_find,
    preview,
    report,
    train,
    use,
)
from nunbit.cli.app import app
from nunbit.cli.dispatch import main

__all__ = ["app", "main"]
