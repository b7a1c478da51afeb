"""The command that looks at data: `nunbit doctor`."""

from pathlib import Path
from typing import Any

from nunbit.cli.app import DEFAULT_OUTPUT, Output, command, say
from nunbit.language import mark, tr

DOCTOR = mark("""Examples:
  nunbit doctor photos/
  nunbit doctor photos/ --features basic --out doctor/photos-basic
  nunbit train --data photos/ --overrides doctor/photos/fixes.csv

The exit code is 65 if there are errors, else 0. No file of the data is changed.""")


@command(examples=DOCTOR)
def doctor(
    data: str,
    /,
    *,
    out: Path | None = None,
    features: str = "auto",
    sample: int | None = None,
    output: Output = DEFAULT_OUTPUT,
) -> dict[str, Any]:
    """Find what is wrong with pictures and labels before a training costs a day.

    Finds unreadable and wrongly named files, tiny and unbalanced classes, exact and near
    duplicates (also across labels and splits), labels that are probably wrong, cues that give the
    class away (shortcuts), and blank, dark or blurred pictures. Writes a page with the pictures
    and a table of proposals that `nunbit train --overrides` honours.

    Args:
        data: A known name, a folder of class folders, a .csv (path,label) or parquet.
        out: A new folder for the page and the table; the default is the next free one in doctor/.
        features: By what labels are judged: pretrained (a network), basic (colours and edges),
            auto (the network where it is installed), or none.
        sample: Pictures whose labels and cues are judged, 0 for all; the default is 6000.
        output: How to answer.
    """
    from nunbit import api

    diagnosis = api.doctor(data, out=out, features=features, sample=sample, quiet=output.quiet)
    result: dict[str, Any] = diagnosis.to_dict()
    for finding in diagnosis.findings:
        say(output, f"{tr(finding.severity):8}{finding.message}")
    say(
        output,
        tr(
            "{images:,} pictures, {classes} classes; {labels}",
            images=result["images"],
            classes=result["classes"],
            labels=result["labels"],
        ),
    )
    say(output, tr("report: {path}", path=result["report"]))
    if diagnosis.fixes_file:
        fixes = diagnosis.fixes_file
        say(
            output,
            tr("next:   read {path}, delete what is wrong in it, then", path=fixes),
            f"        {diagnosis.next_command}",
        )
    return result
