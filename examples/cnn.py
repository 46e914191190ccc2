"""A convolutional network for digits, line by line as a PyTorch program.

taimatsu run examples/cnn.py
taimatsu run examples/cnn.py --mnist FOLDER      (downloads MNIST there, 11 MB)
"""

import argparse

import torch
import torchvision
from torch import nn, optim
from torchvision import transforms


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        # A 3x3 window fits 26 times into 28 pixels; pooling halves that to 13, then 11, then 5.
        self.features = nn.Sequential(
            nn.Conv2d(1, 16, 3),
            nn.ReLU(),
            nn.MaxPool2d(2, stride=2),
            nn.Conv2d(16, 32, 3),
            nn.ReLU(),
            nn.MaxPool2d(2, stride=2),
        )
        self.classifier = nn.Sequential(
            nn.Linear(32 * 5 * 5, 120),
            nn.ReLU(),
            nn.Linear(120, 10),
        )

    def forward(self, images):
        maps = self.features(images)
        rows = maps.view(maps.size(0), -1)  # one row per image
        return self.classifier(rows)


def loader(options, train):
    transform = transforms.Compose([transforms.ToTensor(), transforms.Normalize((0.5,), (0.5,))])
    if options.mnist:
        dataset = torchvision.datasets.MNIST(
            options.mnist, train=train, download=True, transform=transform
        )
    else:
        dataset = torchvision.datasets.Digits(train=train, transform=transform)
    if train:
        print(dataset)
    return torch.utils.data.DataLoader(
        dataset, batch_size=100, shuffle=train, num_workers=options.workers
    )


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--epochs", type=int, default=10)
    parser.add_argument("--workers", type=int, default=0)
    parser.add_argument("--mnist", default="", metavar="FOLDER")
    options = parser.parse_args()

    torch.manual_seed(0)
    device = torch.device("cuda:0" if torch.cuda.is_available() else "cpu")
    train_batches = loader(options, train=True)
    test_batches = loader(options, train=False)
    net = Net().to(device)
    criterion = nn.CrossEntropyLoss()
    optimizer = optim.SGD(net.parameters(), lr=0.05, momentum=0.9, weight_decay=0.005)
    print(optimizer)

    for epoch in range(options.epochs):
        net.train()
        for images, labels in train_batches:
            images, labels = images.to(device), labels.to(device)
            optimizer.zero_grad()
            loss = criterion(net(images), labels)
            loss.backward()
            optimizer.step()

        net.eval()
        correct = 0
        with torch.no_grad():
            for images, labels in test_batches:
                _, guesses = net(images.to(device)).max(1)
                correct += (guesses == labels.to(device)).sum().item()
        print(f"epoch {epoch + 1}: test accuracy {correct / len(test_batches.dataset):.3f}")


if __name__ == "__main__":
    main()
