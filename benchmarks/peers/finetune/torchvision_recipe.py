"""PyTorch's transfer-learning tutorial, which is torchvision's documented way.

https://docs.pytorch.org/tutorials/beginner/transfer_learning_tutorial.html: random resized crop and
flip, batch 4, SGD 1e-3 with momentum 0.9, a tenth of it every 7 epochs, 25 epochs, the weights of
the best epoch on validation. Variant "all" trains every layer, "features" only the last one (the
tutorial's "ConvNet as fixed feature extractor"). Its resize is 256 for a crop of 224, and so in
proportion here. The network, weights and normalisation are those of the other recipes.
"""

import copy

import torch
import torchvision
from photos import (
    MEAN,
    STD,
    WORKERS,
    Order,
    Photos,
    accuracy,
    answer,
    held_out,
    network,
    read_order,
)
from torch import nn
from torch.optim import lr_scheduler
from torch.utils.data import DataLoader
from torchvision import transforms

EPOCHS = 25


def main() -> None:
    """Fine-tune once and print the result."""
    order = read_order(EPOCHS, ("all", "features"))
    to_input = [transforms.ToTensor(), transforms.Normalize(MEAN, STD)]
    for_training = transforms.Compose(
        [transforms.RandomResizedCrop(order.size), transforms.RandomHorizontalFlip(), *to_input]
    )
    for_testing = transforms.Compose(
        [
            transforms.Resize(order.size * 256 // 224),
            transforms.CenterCrop(order.size),
            *to_input,
        ]
    )
    model = network(order)
    if order.variant == "features":
        for parameter in model.parameters():
            parameter.requires_grad = False
        head = model.get_classifier()
        model.classifier = nn.Linear(head.in_features, head.out_features)
    trained = [p for p in model.parameters() if p.requires_grad]
    optimizer = torch.optim.SGD(trained, lr=0.001, momentum=0.9)
    train(model, optimizer, order, for_training, for_testing)
    seconds = order.elapsed()
    test = accuracy(model, held_out(order, "test", for_testing))
    version = f"torchvision {torchvision.__version__}"
    answer("PyTorch tutorial", version, order, seconds=seconds, test=test)


def train(
    model: nn.Module,
    optimizer: torch.optim.Optimizer,
    order: Order,
    for_training: transforms.Compose,
    for_testing: transforms.Compose,
) -> None:
    """Run the tutorial's `train_model`; the best weights on validation are in the model then."""
    data = Photos(order.rows["train"], for_training)
    batches = DataLoader(data, batch_size=4, shuffle=True, num_workers=WORKERS)
    validation = held_out(order, "val", for_testing)
    scheduler = lr_scheduler.StepLR(optimizer, step_size=7, gamma=0.1)
    criterion = nn.CrossEntropyLoss()
    best_accuracy, best_weights = -1.0, model.state_dict()
    for _ in range(order.epochs):
        model.train()
        running_loss = 0.0
        for x, labels in batches:
            optimizer.zero_grad()
            loss = criterion(model(x), labels)
            loss.backward()
            optimizer.step()
            running_loss += loss.item() * len(x)
        scheduler.step()
        found = accuracy(model, validation)
        order.note(found)
        if found > best_accuracy:
            best_accuracy, best_weights = found, copy.deepcopy(model.state_dict())
    model.load_state_dict(best_weights)


if __name__ == "__main__":
    main()
