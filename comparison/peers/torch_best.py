"""PyTorch at its best: the gradient by hand, in place; compiled where there is a compiler, a CUDA graph on a GPU."""

import shutil
from collections.abc import Callable

import numpy as np
import torch

from common.errors import RunError
from comparison.peers import Peer
from comparison.work import Work

UNROLLED = 10  # steps of one call of what is compiled or captured

Take = Callable[[torch.Tensor, torch.Tensor], None]


class TorchBest(Peer):
    """Gathers a block of batches on the device, then takes its steps, UNROLLED of them in a call where it can."""

    def __init__(self, work: Work, device: str):
        super().__init__(work, device)
        if device == "gpu" and not torch.cuda.is_available():
            raise RunError("PyTorch sees no GPU")
        self.place = torch.device("cuda" if device == "gpu" else "cpu")
        self.W = torch.zeros(work.num_classes, work.num_features, device=self.place)
        self.b = torch.zeros(work.num_classes, device=self.place)
        self.images, self.test_images = self.moved(work.images), self.moved(work.test_images)
        self.one_hot = torch.eye(work.num_classes, device=self.place)[
            self.moved(work.labels).long()
        ]
        self.unrolled: Take = self.take

    def moved(self, array: np.ndarray) -> torch.Tensor:
        return torch.from_numpy(array).to(self.place)

    def take(self, images: torch.Tensor, one_hot: torch.Tensor) -> None:
        """Takes a step on each batch of `images` [steps, batch, features] uint8."""
        for x, y in zip((images.float() / 255).unbind(), one_hot.unbind(), strict=True):
            delta = torch.addmm(self.b, x, self.W.t()).softmax(dim=1).sub_(y)
            self.W.addmm_(delta.t(), x, alpha=-self.work.lr)
            self.b.sub_(delta.sum(dim=0), alpha=self.work.lr)

    @torch.inference_mode()
    def take_steps(self, rows: torch.Tensor) -> None:
        """Takes the steps of a block [steps, batch]."""
        images, one_hot = self.images[rows], self.one_hot[rows]
        whole = len(rows) // UNROLLED * UNROLLED if rows.shape[1] == self.work.batch_size else 0
        for first in range(0, whole, UNROLLED):
            self.unrolled(images[first : first + UNROLLED], one_hot[first : first + UNROLLED])
        self.take(images[whole:], one_hot[whole:])

    def compile(self) -> None:
        rows = self.moved(next(self.work.blocks()))
        if self.place.type == "cuda":
            self.take_steps(rows)
            self.unrolled = self.captured(
                self.images[rows[:UNROLLED]], self.one_hot[rows[:UNROLLED]]
            )
        elif shutil.which("g++") or shutil.which("clang++"):
            self.unrolled = torch.compile(self.take, dynamic=False)
        self.take_steps(rows)
        self.num_correct()

    def captured(self, images: torch.Tensor, one_hot: torch.Tensor) -> Take:
        """Returns `take` as a CUDA graph, which reads its batches from where these two tensors are."""
        graph = torch.cuda.CUDAGraph()
        with torch.inference_mode(), torch.cuda.graph(graph):
            self.take(images, one_hot)

        def replay(new_images: torch.Tensor, new_one_hot: torch.Tensor) -> None:
            images.copy_(new_images)
            one_hot.copy_(new_one_hot)
            graph.replay()

        return replay

    def reset(self) -> None:
        self.W.zero_()
        self.b.zero_()

    def train(self) -> None:
        for rows in self.work.blocks():
            self.take_steps(self.moved(rows))

    def num_correct(self) -> int:
        predictions = torch.addmm(self.b, self.test_images.float() / 255, self.W.t()).argmax(dim=1)
        return int((predictions.cpu().numpy() == self.work.test_labels).sum())

    def weights(self) -> tuple[np.ndarray, np.ndarray]:
        return self.W.cpu().numpy().T, self.b.cpu().numpy()

    def barrier(self) -> None:
        if self.place.type == "cuda":
            torch.cuda.synchronize()
