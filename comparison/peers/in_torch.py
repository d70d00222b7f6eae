"""PyTorch as in its tutorials, and at its best: by hand, compiled, on a GPU as a CUDA graph."""

import shutil
from collections.abc import Callable

import numpy as np
import torch

from comparison.peers import threads
from comparison.worker import Train, Work, leave_out

BLOCK_ROWS = 5_000  # gathered and converted at once
UNROLLED = 20  # steps, or pieces of a step, in a call of the compiled function
PIECE = 1_000  # rows in a piece of a large batch, for the caches of a CPU


def contender(work: Work) -> Train:
    """Returns a function that does the job by nn.Linear, cross_entropy, autograd and SGD."""
    images, labels, blocks = _placed(work, BLOCK_ROWS)
    model = torch.nn.Linear(work.num_features, work.num_classes, device=images.device)
    optimizer = torch.optim.SGD(model.parameters(), lr=work.lr)

    def train() -> tuple[np.ndarray, np.ndarray]:
        for parameter in model.parameters():
            torch.nn.init.zeros_(parameter)
        for rows in blocks:
            for x, y in zip(images[rows] / 255, labels[rows], strict=True):
                optimizer.zero_grad()
                torch.nn.functional.cross_entropy(model(x), y, reduction="sum").backward()
                optimizer.step()
        return model.weight.numpy(force=True).T, model.bias.numpy(force=True)

    train()
    return train


@torch.inference_mode()
def best(work: Work) -> Train:
    """Returns a function that does the job without autograd."""
    if not shutil.which("g++"):
        leave_out("torch.compile needs g++, which is not found: install it")
    images, labels, blocks = _placed(work, UNROLLED * min(work.batch_size, PIECE))
    place, on_gpu = images.device, images.is_cuda
    W = torch.zeros(work.num_classes, work.num_features, device=place)
    b = W.new_zeros(work.num_classes)
    one_hot = torch.eye(work.num_classes, device=place)[labels]
    piece = work.batch_size if on_gpu else PIECE

    def take_steps(rows: torch.Tensor) -> None:
        for batch in rows:
            W_before, b_before = W.clone(), b.clone()
            for some in batch.split(piece):
                x = images[some] / 255
                z = torch.addmm(b_before[:, None], W_before, x.t())
                delta = z.softmax(dim=0) - one_hot[some].t()
                if on_gpu:
                    W.addmm_(delta, x, alpha=-work.lr)
                else:  # MKL may add examples to W one by one, which has a large rounding error
                    W.sub_(delta @ x, alpha=work.lr)
                b.sub_(delta.sum(dim=1), alpha=work.lr)

    compiled = torch.compile(take_steps, dynamic=False, options={"cpp_wrapper": not on_gpu})

    def steps() -> None:
        W.zero_()
        b.zero_()
        for rows in blocks:
            compiled(rows)

    run = captured(steps) if on_gpu else steps

    @torch.inference_mode()
    def train() -> tuple[np.ndarray, np.ndarray]:
        run()
        return W.cpu().numpy().T, b.cpu().numpy()

    train()
    return train


def _placed(work: Work, max_rows: int) -> tuple[torch.Tensor, torch.Tensor, list[torch.Tensor]]:
    """Sets PyTorch's threads and precision; returns images, labels and the blocks of rows on the
    device."""
    if work.device == "gpu" and not torch.cuda.is_available():
        leave_out("PyTorch sees no GPU")
    torch.set_num_threads(threads(work))
    torch.set_float32_matmul_precision("high" if work.precision == "tf32" else "highest")
    place = "cuda" if work.device == "gpu" else "cpu"
    images = torch.as_tensor(work.images, device=place)
    labels = torch.as_tensor(work.labels, device=place).long()
    return images, labels, [torch.as_tensor(rows, device=place) for rows in work.blocks(max_rows)]


def captured(steps: Callable[[], None]) -> Callable[[], object]:
    """Returns a function that replays `steps` as a CUDA graph."""
    graph = torch.cuda.CUDAGraph()
    torch.cuda.synchronize()  # another stream does not wait for what was copied to the device
    with torch.cuda.stream(torch.cuda.Stream()):
        steps()  # compiles, which cannot be captured
    torch.cuda.synchronize()
    with torch.cuda.graph(graph):
        steps()

    def replay() -> Callable[[], None]:
        graph.replay()
        return steps  # which keeps its tensors alive; the graph does not

    return replay
