"""PyTorch: nn.Linear, cross_entropy, autograd and torch.optim.SGD."""

import numpy as np
import torch

from common.errors import RunError
from comparison.peers import Peer
from comparison.work import Work


class TorchAutograd(Peer):
    """Gathers and converts a block of batches on the device, then takes its steps one by one."""

    def __init__(self, work: Work, device: str):
        super().__init__(work, device)
        if device == "gpu" and not torch.cuda.is_available():
            raise RunError("PyTorch sees no GPU")
        self.place = torch.device("cuda" if device == "gpu" else "cpu")
        self.model = torch.nn.Linear(work.num_features, work.num_classes, device=self.place)
        self.optimizer = torch.optim.SGD(self.model.parameters(), lr=work.lr)
        self.images, self.test_images = self.moved(work.images), self.moved(work.test_images)
        self.labels, self.test_labels = self.moved(work.labels).long(), self.moved(work.test_labels)

    def moved(self, array: np.ndarray) -> torch.Tensor:
        return torch.from_numpy(array).to(self.place)

    def take_steps(self, rows: torch.Tensor) -> None:
        """Takes the steps of a block [steps, batch]."""
        for x, y in zip(
            (self.images[rows].float() / 255).unbind(), self.labels[rows].unbind(), strict=True
        ):
            self.optimizer.zero_grad()
            torch.nn.functional.cross_entropy(self.model(x), y, reduction="sum").backward()
            self.optimizer.step()

    def compile(self) -> None:
        self.take_steps(self.moved(next(self.work.blocks())))
        self.num_correct()

    def reset(self) -> None:
        for parameter in self.model.parameters():
            torch.nn.init.zeros_(parameter)

    def train(self) -> None:
        for rows in self.work.blocks():
            self.take_steps(self.moved(rows))

    @torch.no_grad()
    def num_correct(self) -> int:
        predictions = self.model(self.test_images.float() / 255).argmax(dim=1)
        return int((predictions == self.test_labels).sum())

    def weights(self) -> tuple[np.ndarray, np.ndarray]:
        return self.model.weight.detach().cpu().numpy().T, self.model.bias.detach().cpu().numpy()

    def barrier(self) -> None:
        if self.place.type == "cuda":
            torch.cuda.synchronize()
