"""The examples that the help of each command ends in."""

EXAMPLES = {
    "train": """Examples:
  nunbit train                        digits, in seconds
  nunbit train birds/net              the texts' network, bird or airplane
  nunbit train --data photos/         a folder with one folder per class
  nunbit train birds/net --train.epochs 5 --optim.lr 0.02
  nunbit train --config runs/digits-cnn/config.json

Any setting can be given as --SECTION.FIELD VALUE; `nunbit settings` lists them.""",
    "resume": """Examples:
  nunbit resume runs/birds-net""",
    "predict": """Examples:
  nunbit predict runs/digits-cnn photo.jpg
  nunbit predict runs/photos-cnn holiday/ --json
  cat photo.jpg | nunbit predict runs/photos-cnn -""",
    "evaluate": """Examples:
  nunbit evaluate runs/digits-cnn     its own held-out test split
  nunbit evaluate runs/photos-cnn --data more-photos/""",
    "import": """Examples:
  nunbit import weights.pt --model net --classes airplane,bird
  nunbit import weights.pt --model cnn --size 28 --channels 1 --mean 0.1307 --std 0.3081
  nunbit import weights.pt --model net --model.width 32 --output net.safetensors""",
    "models": """Examples:
  nunbit models
  nunbit models net
  nunbit models net --model.width 32 --classes 10
  nunbit models timm:resnet18 --size 224""",
    "recipes": """Examples:
  nunbit recipes
  nunbit recipes --json""",
    "settings": """Examples:
  nunbit settings
  nunbit settings --json""",
}
