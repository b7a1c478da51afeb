"""A classifier that knows when to be silent: `python examples/unknown.py photos/ new.jpg ...`.

Fine-tunes a pretrained network on a folder with one folder per class, and says of each new picture
what it is, between which classes the network hesitates, or that it is none of them.
"""

import sys
from pathlib import Path

import nunbit


def main(data: str, *pictures: str) -> None:
    """Fine-tune, tell what to expect, and classify pictures."""
    run = nunbit.finetune(data, budget="90s", max_error=0.02)
    answers = run.test.answers
    assert answers is not None
    print(f"{answers.coverage:.0%} of {answers.n} test pictures got a label; {answers.wrong} wrong")
    classifier = nunbit.load(run.run_dir)
    for said in classifier.predict([Path(picture) for picture in pictures]):
        if said.verdict == "unsure":
            (first, p), (second, q) = said.top[:2]
            print(f"{said.path}: {first} ({p:.0%}) or {second} ({q:.0%})?")
        else:
            print(f"{said.path}: {said.answer}")


if __name__ == "__main__":
    if len(sys.argv) < 3:
        sys.exit(__doc__)
    main(*sys.argv[1:])
