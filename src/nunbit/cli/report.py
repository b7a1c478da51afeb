"""The command that writes reports again: `nunbit report`."""

from typing import Any

from nunbit.cli.app import DEFAULT_OUTPUT, Output, command, say
from nunbit.errors import UsageError
from nunbit.language import mark

REPORT = mark("""Examples:
  nunbit report runs/digits-cnn
  nunbit report runs/birds-net runs/birds-res

The page is one file without network or scripts: open it, print it, send it by mail.""")


@command(examples=REPORT)
def report(*runs: str, output: Output = DEFAULT_OUTPUT) -> dict[str, Any]:
    """Write the page of finished runs again, from their folders and their data.

    The pictures are read and classified again; the data must not have changed.

    Args:
        runs: Run folders of trainings that ended.
        output: How to answer.
    """
    if not runs:
        raise UsageError("no run given; write: nunbit report RUN...")
    from nunbit import api

    files = []
    for run in runs:
        files.append(str(api.report(run, quiet=output.quiet)))
        say(output, files[-1])
    return {"files": files, **({"file": files[0]} if len(files) == 1 else {})}
