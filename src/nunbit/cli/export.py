"""The command that ships a model to other programs: `nunbit export`."""

from pathlib import Path
from typing import Annotated, Any, Literal

from cyclopts import Parameter

from nunbit.cli.app import DEFAULT_OUTPUT, Output, command, say
from nunbit.language import mark, tr

EXPORT = mark("""Examples:
  nunbit export runs/digits-cnn
  nunbit export runs/photos-cnn --output flowers.onnx
  nunbit export flowers.safetensors --json""")


@command(examples=EXPORT)
def export(
    run: str,
    /,
    *,
    format: Literal["onnx"] = "onnx",
    file: Annotated[Path | None, Parameter(name="--output")] = None,
    output: Output = DEFAULT_OUTPUT,
) -> dict[str, Any]:
    """Write a model as an ONNX file, for programs that have neither nunbit nor torch.

    The file takes pixels as bytes and gives probabilities; where the model may decline, it does so
    too. It is run once before it is kept, and must answer as the model does.

    Args:
        run: A run folder or a model file.
        format: Of the file; there is only one.
        file: A new file; the default is the model file with the suffix .onnx.
        output: How to answer.
    """
    from nunbit.exporting import export as write

    made = write(run, file, format=format, quiet=output.quiet)
    result = made.to_dict()
    note = tr("note:    nunbit itself computes this model in bf16; the file computes in float32")
    say(
        output,
        tr("input:   {tensors}", tensors=_described(made.inputs)),
        tr("outputs: {tensors}", tensors=_described(made.outputs)),
        tr(
            "checked: {program} answers as the model does; probabilities differ by up to "
            "{difference:.2g}",
            program=made.checked_with,
            difference=made.max_difference,
        ),
        *([note] if made.nunbit_precision == "bf16" else []),
        tr("model:   {path} ({size:.1f} MB)", path=made.path, size=result["bytes"] / 1e6),
    )
    return result


def _described(tensors: dict[str, list[Any]]) -> str:
    """Return names with types and shapes: images, uint8 (N, 32, 32, 3)."""
    return "; ".join(
        f"{name}, {kind} ({', '.join(map(str, shape))})" for name, (kind, *shape) in tensors.items()
    )
