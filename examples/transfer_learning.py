"""Transfer learning in small: a network that knows some digits learns others.

    taimatsu run examples/transfer_learning.py

First a network learns the digits 0 to 4. Then its last layer is replaced and, with the rest frozen,
learns 5 to 9. One function trains both times: each epoch has a training and a validation phase,
and the weights that did best in validation are kept.
"""

import argparse
import copy

import torch
import torchvision
from torch import nn, optim
from torch.optim import lr_scheduler
from torch.utils.data import DataLoader, Subset


def loaders(digits, batch_size=32):
    """For each phase the images of the given digits; labels count from zero."""
    to_tensor = torchvision.transforms.ToTensor()
    made = {}
    for phase in ("train", "val"):
        part = torchvision.datasets.Digits(
            train=(phase == "train"),
            transform=to_tensor,
            target_transform=lambda label: label - digits[0],
        )
        chosen = [i for i, label in enumerate(part.targets.tolist()) if label in digits]
        made[phase] = DataLoader(Subset(part, chosen), batch_size, shuffle=(phase == "train"))
    return made


def run_phase(model, batches, criterion, optimizer, training):
    """Goes through the batches once; (mean loss, accuracy)."""
    model.train(training)
    running_loss = 0.0
    running_correct = 0
    for inputs, labels in batches:
        optimizer.zero_grad()
        with torch.set_grad_enabled(training):
            outputs = model(inputs)
            loss = criterion(outputs, labels)
            if training:
                loss.backward()
                optimizer.step()
        # The loss is the mean over this batch; weighting it makes the epoch's mean exact.
        running_loss += loss.item() * inputs.size(0)
        running_correct += (outputs.argmax(1) == labels).sum().item()
    count = len(batches.dataset)
    return running_loss / count, running_correct / count


def train_model(model, batches, criterion, optimizer, scheduler, num_epochs):
    """Trains, and leaves the model with its best weights; the best validation accuracy."""
    best_weights = copy.deepcopy(model.state_dict())
    best_accuracy = 0.0
    for epoch in range(num_epochs):
        for phase in ("train", "val"):
            loss, accuracy = run_phase(
                model, batches[phase], criterion, optimizer, training=(phase == "train")
            )
            print(f"epoch {epoch + 1} {phase:5s} loss {loss:.4f} accuracy {accuracy:.3f}")
            if phase == "val" and accuracy > best_accuracy:
                best_accuracy = accuracy
                best_weights = copy.deepcopy(model.state_dict())
        scheduler.step()
    model.load_state_dict(best_weights)
    return best_accuracy


def backbone():
    return nn.Sequential(
        nn.Conv2d(1, 8, 3),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Conv2d(8, 16, 3),
        nn.BatchNorm2d(16),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Flatten(),
    )


def fit(model, digits, lr, epochs):
    trained = [p for p in model.parameters() if p.requires_grad]
    optimizer = optim.SGD(trained, lr=lr, momentum=0.9)
    scheduler = lr_scheduler.StepLR(optimizer, step_size=3, gamma=0.3)
    return train_model(model, loaders(digits), nn.CrossEntropyLoss(), optimizer, scheduler, epochs)


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--epochs", type=int, default=4)
    options = parser.parse_args()
    torch.manual_seed(0)

    print("digits 0 to 4, from the beginning")
    model = nn.Sequential(backbone(), nn.Linear(16 * 5 * 5, 5))
    fit(model, range(0, 5), lr=0.05, epochs=options.epochs)

    print("digits 5 to 9, last layer only")
    for parameter in model[0].parameters():
        parameter.requires_grad = False
    model[1] = nn.Linear(16 * 5 * 5, 5)
    frozen = model[0][0].weight.clone()
    best = fit(model, range(5, 10), lr=0.05, epochs=options.epochs)
    assert torch.equal(frozen, model[0][0].weight)
    print(f"best validation accuracy: {best:.3f}")


if __name__ == "__main__":
    main()
