"""PyTorch at its best: the gradient by hand, in place, compiled; on a GPU in a CUDA graph."""

import shutil
from collections.abc import Callable

import numpy as np
import torch

from comparison.peers import torch_device
from comparison.worker import Train, Work

UNROLLED = 10  # steps of a call of what is compiled
PIECE = 500  # rows of a large batch at a time: their floats stay in a core's cache


@torch.inference_mode()
def contender(work: Work) -> Train:
    """Returns what does the job; the order is on the device before the clock."""
    place = torch_device(work)
    W = torch.zeros(work.num_classes, work.num_features, device=place)
    b = torch.zeros(work.num_classes, device=place)
    images = torch.from_numpy(work.images).to(place)
    one_hot = torch.eye(work.num_classes, device=place)[torch.from_numpy(work.labels).to(place)]

    def take_steps(rows: torch.Tensor) -> None:
        for batch in rows.unbind():
            x = images[batch] / 255
            delta = torch.addmm(b, x, W.t()).softmax(dim=1) - one_hot[batch]
            W.addmm_(delta.t(), x, alpha=-work.lr)
            b.sub_(delta.sum(dim=0), alpha=work.lr)

    if place.type == "cuda" or shutil.which("g++") or shutil.which("clang++"):
        take_steps = torch.compile(take_steps, dynamic=False)

    def epoch(rows: torch.Tensor) -> None:
        for some in rows.split(UNROLLED):
            take_steps(some)

    epochs = [torch.from_numpy(rows).to(place) for rows in work.blocks()]
    run = captured(epoch, epochs) if place.type == "cuda" else epoch

    @torch.inference_mode()
    def train() -> tuple[np.ndarray, np.ndarray]:
        W.zero_()
        b.zero_()
        for rows in epochs:
            run(rows)
        return W.cpu().numpy().T, b.cpu().numpy()

    train()
    return train


def captured(
    epoch: Callable[[torch.Tensor], None], epochs: list[torch.Tensor]
) -> Callable[[torch.Tensor], None]:
    """Returns `epoch` as CUDA graphs, one for each shape of rows."""
    graphs = {}
    for rows in epochs:
        if rows.shape not in graphs:
            own, graph = rows.clone(), torch.cuda.CUDAGraph()
            with torch.cuda.stream(torch.cuda.Stream()):
                epoch(own)  # compiles, which cannot be captured
            torch.cuda.synchronize()
            with torch.cuda.graph(graph):
                epoch(own)
            graphs[rows.shape] = own, graph

    def replay(rows: torch.Tensor) -> None:
        own, graph = graphs[rows.shape]
        own.copy_(rows)
        graph.replay()

    return replay
