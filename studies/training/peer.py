"""A further process of a trial that several train: it does what the first one says until that ends it or is gone, and writes nothing.

Run as a program, it takes its job from the first line of its input, and ends where the input does.
"""

from __future__ import annotations

import contextlib
import json
import os
import socket
import sys
import threading
from collections.abc import Callable
from pathlib import Path

import torch

from ..data.augment import Augment
from ..data.feed import Feed
from ..data.prepare import open_prepared
from ..gate import training as gate
from ..store import Store
from .group import CONTINUE, END, LEAVING, TROUBLE, VALIDATE, Group, Seat, find_board, host_key
from .images import training_images
from .machine import out_of_memory
from .run_trial import How, configure, validate
from .teacher import load_teacher
from .team import Job
from .train import Training


def take_part(job: Job, seat: Seat, *, leaving: Callable[[], bool] = lambda: False) -> None:
    """Train a share of every batch until the first process says end; where this one is `leaving`, it says so after the epoch. What goes
    wrong here is told to the first process."""
    board = find_board(seat)
    group, failed = None, True
    try:
        how = How(**job.how)
        configure(how)
        store, device = Store(job.store), torch.device(how.device)
        trial = store.trial(job.trial)
        prepared = open_prepared(store.local_data(Path(job.data)))
        feed, held_out = (Feed(prepared, "train", images, device) for images in training_images(prepared, trial.data))
        augment = Augment(trial.recipe, mean=prepared.mean, std=prepared.std, classes=prepared.classes)
        teacher = load_teacher(store, trial.recipe.teacher, device) if trial.recipe.teacher else None
        board.set(host_key(seat.rank), socket.gethostname())
        group = Group(seat, device, board)
        training = Training(
            trial,
            feed,
            mean=prepared.mean,
            std=prepared.std,
            micro_batch=how.micro_batch,
            compiled=how.compile,
            teacher=teacher,
            group=group,
        )
        while (word := group.told()) != END:
            if word.startswith(CONTINUE):
                training.restore(group.take(int(word.split()[1]), device))
                continue
            with gate() if group.first_on_host else contextlib.nullcontext():
                if word == VALIDATE:
                    validate(training, held_out, augment)
                else:
                    training.train_epoch()
            if leaving():
                board.set(LEAVING, "yes")
        failed = False
    except Exception as error:
        said = f"{_kind(error)} process {seat.rank} of {seat.processes} on {socket.gethostname()}: {_line(error)}"
        with contextlib.suppress(RuntimeError):  # the first process is gone
            board.compare_set(TROUBLE, "", said)  # whose trouble came first is behind that of others
        raise
    finally:
        if group is not None:
            group.close(failed=failed)


def _kind(error: Exception) -> str:
    if out_of_memory(error):
        return "memory"
    if isinstance(error, ValueError):
        return "user"
    return "lost" if isinstance(error, RuntimeError) else "other"  # torch has no error of its own for a connection that ended


def _line(error: Exception) -> str:
    text = str(error).strip().splitlines()
    return text[0] if text else type(error).__name__


def main() -> None:
    """Take the job from standard input."""
    job, seat = json.loads(sys.stdin.readline())

    def end_with_the_first() -> None:
        sys.stdin.read()
        os._exit(0)

    threading.Thread(target=end_with_the_first, daemon=True).start()
    take_part(Job(**job), Seat(**seat))


if __name__ == "__main__":
    main()
