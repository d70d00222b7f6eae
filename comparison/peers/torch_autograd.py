"""PyTorch as its tutorials have it: nn.Linear, cross_entropy, autograd and torch.optim.SGD."""

import numpy as np
import torch

from comparison.peers import torch_device
from comparison.worker import Train, Work

BLOCK_ROWS = 5_000  # gathered and converted at once on a CPU, in whole batches; on a GPU an epoch


def contender(work: Work) -> Train:
    """Returns what does the job, step by step; the order is on the device before the clock."""
    place = torch_device(work)
    model = torch.nn.Linear(work.num_features, work.num_classes, device=place)
    optimizer = torch.optim.SGD(model.parameters(), lr=work.lr)
    images = torch.from_numpy(work.images).to(place)
    labels = torch.from_numpy(work.labels).to(place).long()
    block_steps = None if work.device == "gpu" else max(1, BLOCK_ROWS // work.batch_size)
    blocks = [torch.from_numpy(rows).to(place) for rows in work.blocks(block_steps)]

    def take_steps(rows: torch.Tensor) -> None:
        for x, y in zip(images[rows].float() / 255, labels[rows], strict=True):
            optimizer.zero_grad()
            torch.nn.functional.cross_entropy(model(x), y, reduction="sum").backward()
            optimizer.step()

    def train() -> tuple[np.ndarray, np.ndarray]:
        for parameter in model.parameters():
            torch.nn.init.zeros_(parameter)
        for rows in blocks:
            take_steps(rows)
        return model.weight.detach().cpu().numpy().T, model.bias.detach().cpu().numpy()

    take_steps(blocks[0])
    return train
