"""run_trial: the seam between what schedules trials and what trains them. It needs the store and prepared data, nothing else.

A trial that is killed at any moment continues from its last epoch when it is run again, and ends as if it had not been. Every epoch holds
the host's gate, so that nothing is measured beside it.
"""

from __future__ import annotations

import contextlib
import json
import math
import os
import socket
import traceback
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import load_file, save

from ...roadmap.model import Network
from ..data.augment import Augment
from ..data.feed import Feed
from ..data.prepare import Prepared, open_prepared
from ..gate import training as gate
from ..robustness import CORRUPTIONS
from ..store import Store, append, locked, read_json, remove, remove_torn, write_atomic, write_json
from ..trial import ERRORS, Execution, Score, Trial, TrialResult
from .evaluate import Predictions, predict
from .group import VALIDATE, PeerLost
from .images import training_images
from .machine import device_name, out_of_memory, versions
from .score_corrupted import score_corrupted
from .teacher import load_teacher
from .team import Job, LocalPeers, Peers, Team
from .train import MicroBatchTooSmall, Training, chunk
from .trunk import Trunk

SPLITS = ("validation", "test")

ENDS = ("left", "paused", "failed")  # how events of an attempt begin that ended in good order


class Left(Exception):
    """The process was told to end, and the trial is saved for another to continue."""


@dataclass(frozen=True, kw_only=True)
class How:
    """How to run: none of it changes which trial it is. `threads` are those of each of `processes`, and so is `micro_batch`."""

    device: str = "cpu"
    threads: int = 1
    micro_batch: int | None = None
    compile: bool = False
    executor: str = "local"
    processes: int = 1


def run_trial(
    store: Store,
    trial: Trial,
    data: Path,
    how: How,
    *,
    splits: Sequence[str] = SPLITS,
    on_epoch: Callable[[dict[str, Any]], None] | None = None,
    leaving: Callable[[], bool] = lambda: False,
    peers: Callable[[], Peers] = LocalPeers,
) -> TrialResult:
    """Train `trial` (or continue it, or find it finished) and score it on `splits`: "validation", "test", and "corruptions", the test
    split's images corrupted.

    Holds the trial's lock; store.Busy where another process does. `data` is a prepared folder. `on_epoch` gets each curve record. Where
    this process is `leaving`, it ends with Left once the epoch is saved. What goes wrong is kept in the trial's folder. Where several
    processes train it, `peers` starts the others, and PeerLost says that one was lost.
    """
    folder = store.add(trial)
    with locked(folder / "lock", f"trial {trial.id}"):
        known = store.result(trial.id)
        if known is not None and not store.lacks(trial.id, splits):
            return known
        configure(how)
        prepared = _prepared(store.local_data(data), trial)
        own = tuple(s for s in splits if s != CORRUPTIONS)
        if known is None or store.lacks(trial.id, own):
            team = _team(store, trial, data, how, peers)
            known = _Run(store, trial, prepared, how, own, on_epoch or (lambda record: None), leaving, team).run()
        if store.lacks(trial.id, splits):
            _score_corrupted(store, trial, prepared, torch.device(how.device))
        return known


def run_part(
    store: Store, trial: Trial, data: Path, how: How, epochs: int, *, on_epoch: Callable[[dict[str, Any]], None] | None = None
) -> list[dict[str, Any]]:
    """Train the first `epochs` epochs of `trial` and leave it there, for anyone to continue; gives its curve, shorter where it diverged.

    Raises what `run_trial` raises.
    """
    folder = store.add(trial)
    with locked(folder / "lock", f"trial {trial.id}"):
        if store.result(trial.id) is None and len(store.curve(trial.id)) < epochs:
            configure(how)
            team = _team(store, trial, data, how, LocalPeers)
            run = _Run(store, trial, _prepared(store.local_data(data), trial), how, (), on_epoch or (lambda record: None), team=team)
            training, alive = run.advance(epochs)
            if not alive:
                run.diverged(training.epoch)
            else:
                run.say(f"paused after epoch {training.epoch}")
        return store.curve(trial.id)[:epochs]


def _team(store: Store, trial: Trial, data: Path, how: How, peers: Callable[[], Peers]) -> Team | None:
    if how.processes == 1:
        return None
    return Team(Job(store=store.address, trial=trial.id, data=str(data), how=asdict(how)), peers())


def _prepared(data: Path, trial: Trial) -> Prepared:
    prepared = open_prepared(data)
    if prepared.fingerprint != trial.data.fingerprint:
        raise ValueError(f"{data} holds other images than trial {trial.id} was planned for: run the study again")
    return prepared


def _score_corrupted(store: Store, trial: Trial, prepared: Prepared, device: torch.device) -> None:
    """Score the kept weights on corrupted test images; the result stays as it is."""
    weights = store.trial_folder(trial.id) / "weights.safetensors"
    if not weights.exists():
        raise ValueError(f"trial {trial.id} has lost {weights.name}: remove {weights.parent}, and run the study again")
    store.count_test_scoring(trial, CORRUPTIONS)
    network = trained(trial, load_file(weights), device)
    augment = Augment(trial.recipe, mean=prepared.mean, std=prepared.std, classes=prepared.classes)
    feed = Feed(prepared, "test", np.arange(prepared.test), device)
    store.keep_corruptions(trial.id, score_corrupted(network, feed, augment, trial.recipe))


def trained(trial: Trial, weights: dict[str, torch.Tensor], device: torch.device) -> Network:
    """The trial's network with `weights`."""
    network = Network(trial.network).to(device, memory_format=torch.channels_last)  # type: ignore[call-overload]
    network.load_state_dict(weights)
    return network  # type: ignore[no-any-return]


def validate(training: Training, feed: Feed, augment: Augment) -> float:
    """Top-1 (%) on `feed` of the weights that would be scored now. The processes of a group, which must all ask, share its batches."""
    network, group = training.network, training.group
    if training.ema is not None:
        network = trained(training.trial, training.ema, training.device)
    if group is None:
        return predict(network, feed, augment, training.recipe).score().top1
    own = predict(network, feed, augment, training.recipe, rank=group.rank, processes=group.processes)
    right = group.sum(torch.tensor(int(own.correct.sum()), device=training.device))
    return 100 * (int(right) / len(feed))


def configure(how: How) -> None:
    """Fix what could make two runs of one trial differ: threads, and the choice of kernels."""
    if torch.get_num_threads() != how.threads:
        torch.set_num_threads(how.threads)
    if how.device == "cuda":
        os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
        torch.backends.cudnn.benchmark = False
        torch.backends.cudnn.deterministic = True


class _Run:
    def __init__(
        self,
        store: Store,
        trial: Trial,
        prepared: Prepared,
        how: How,
        splits: tuple[str, ...],
        on_epoch: Callable[[dict[str, Any]], None],
        leaving: Callable[[], bool] = lambda: False,
        team: Team | None = None,
    ) -> None:
        self.store, self.trial, self.prepared, self.how, self.splits, self.on_epoch = store, trial, prepared, how, splits, on_epoch
        self.leaving, self.team = leaving, team
        self.folder = store.trial_folder(trial.id)
        self.device = torch.device(how.device)
        self.events: list[str] = list(read_json(self.folder / "events.json") or [])
        self.attempt = sum(e.startswith("attempt") for e in self.events) + 1
        if self.attempt > 1 and store.result(trial.id) is None and not self.events[-1].startswith(ENDS):
            self.events.append(f"lost in attempt {self.attempt - 1}")
        remove_torn(self.folder)
        several = f", {how.processes} processes" if how.processes > 1 else ""
        self.say(f"attempt {self.attempt} on {socket.gethostname()}{several}")
        train, validation = training_images(prepared, trial.data)
        self.train = Feed(prepared, "train", train, self.device)
        self.feeds = {"validation": Feed(prepared, "train", validation, self.device)}
        self.augment = Augment(trial.recipe, mean=prepared.mean, std=prepared.std, classes=prepared.classes)
        self.batch = min(trial.recipe.batch_size, len(train))
        self.micro_batch = chunk(trial.network, trial.recipe, self.batch, how.micro_batch, how.processes)
        self.compiled = how.compile
        self.trunk_epochs = trial.recipe.trunk_epochs(trial.epochs)
        self.taken = 0  # epochs that another trial trained, and that this one took from their common trunk

    def say(self, event: str) -> None:
        self.events.append(event)
        write_json(self.folder / "events.json", self.events)

    def run(self) -> TrialResult:
        """Train what is left, and score. What goes wrong is kept in the trial's folder."""
        try:
            return self._run()
        except (Left, PeerLost):
            raise
        except Exception as error:
            head = f"{datetime.now(UTC).isoformat(timespec='seconds')} on {socket.gethostname()}\n"
            with contextlib.suppress(Exception):  # the error itself matters more
                append(self.folder / ERRORS, head + traceback.format_exc() + "\n")
                self.say(f"failed: {type(error).__name__}")
            raise

    def _run(self) -> TrialResult:
        weights, known = self.folder / "weights.safetensors", self.store.result(self.trial.id)
        if weights.exists() and known is not None:
            self.taken = known.epochs_taken
            return self._finish(load_file(weights))
        training, alive = self.advance(self.trial.epochs)
        return self._finish(training.final_weights()) if alive else self.diverged(training.epoch)

    def advance(self, epochs: int) -> tuple[Training, bool]:
        """Train until `epochs` of the trial's epochs are done, or the loss is no number any more; whether it still is one."""
        failed = True
        try:
            out = self._advance(epochs)
            failed = False
        finally:
            if self.team:
                self.team.end(failed=failed)
        return out

    def _advance(self, epochs: int) -> tuple[Training, bool]:
        self._mend_curve()
        with gate():
            training = self._training()
        alive = True
        while alive and training.epoch < epochs:
            short = False
            try:
                alive = self._along_trunk(training) if training.epoch < self.trunk_epochs else self._own_epoch(training)
            except (torch.OutOfMemoryError, RuntimeError, MemoryError) as error:
                if not out_of_memory(error):
                    raise
                short = True
            if short:  # here, where the error does not hold the step's memory any more
                del training
                training = self._with_less_memory()
            if (self.leaving() or (self.team and self.team.leaving)) and alive and training.epoch < epochs:
                self.say(f"left after epoch {training.epoch}: the process was told to end")
                raise Left(f"trial {self.trial.id} is saved after epoch {training.epoch}")
        return training, alive

    def _together(self) -> contextlib.AbstractContextManager[None]:
        """Within, all processes of the trial do the same."""
        return self.team.together() if self.team else contextlib.nullcontext()

    def _own_epoch(self, training: Training) -> bool:
        """Train an epoch that this trial shares with no other; whether the loss is still a number."""
        with gate():
            record = self._train_epoch(training)
            if record["loss"] is not None:
                self._checkpoint(training)
        self.on_epoch(record)  # beyond the gate: who listens may be waiting for it
        return record["loss"] is not None

    def _along_trunk(self, training: Training) -> bool:
        """Take the epochs before the cooldown from the trunk, train those that it lacks, and go on as this trial alone; whether the loss
        is still a number."""
        trunk = Trunk(self.store, self.trial, self._conditions())
        with trunk.turn(self.trunk_epochs, self.device) as state:
            curve: list[dict[str, Any]] = state["curve"] if state else []
            self._take_curve(curve)
            if state is not None:
                training.restore(state)
                with self._together():
                    training.share()
                self.say(f"continued trunk {trunk.key} after epoch {training.epoch}")
            while training.epoch < self.trunk_epochs:
                before = training.epoch
                with gate():
                    record = self._train_epoch(training)
                    alive = record["loss"] is not None
                    if alive:
                        curve = [*curve, record | {"trial": self.trial.id}]
                        trunk.keep(training.state() | {"curve": curve}, training.epoch, instead_of=before)
                self.on_epoch(record)
                if not alive:
                    return False
        self._checkpoint(training)
        return True

    def _take_curve(self, curve: list[dict[str, Any]]) -> None:
        """The curve so far is that of the trunk, whoever trained it."""
        self.taken = sum(record["trial"] != self.trial.id for record in curve)
        own = [{k: v for k, v in record.items() if k != "trial"} for record in curve]
        text = "".join(json.dumps(record) + "\n" for record in own)
        write_atomic(self.folder / "curve.jsonl", lambda file: file.write(text.encode()))

    def _conditions(self) -> dict[str, Any]:
        """How this trial runs, as far as that can decide its bits."""
        return {
            "device": device_name(self.device),
            "threads": self.how.threads,
            "micro_batch": self.micro_batch,
            "compiled": self.compiled,
            "versions": versions(),
            **({"processes": self.how.processes} if self.team else {}),
        }

    def _training(self) -> Training:
        recipe = self.trial.recipe
        with self._together():
            training = Training(
                self.trial,
                self.train,
                mean=self.prepared.mean,
                std=self.prepared.std,
                micro_batch=self.micro_batch,
                compiled=self.compiled,
                teacher=load_teacher(self.store, recipe.teacher, self.device) if recipe.teacher else None,
                group=self.team.assemble(self.micro_batch) if self.team else None,
            )
        path = self.folder / "checkpoint.pt"
        if path.exists():
            try:
                state = torch.load(path, map_location=self.device, weights_only=True)
                if state["trial"] != self.trial.id:
                    raise ValueError(f"it belongs to trial {state['trial']}")
                training.restore(state)
                self.taken = state.get("taken", 0)
                if self.events[-1].startswith("attempt"):
                    self.say(f"continued after epoch {training.epoch}")
            except Exception as error:
                self.say(f"checkpoint unreadable ({type(error).__name__}): started again from epoch 0")
                remove(path)
                return self._training()
            with self._together():
                training.share()
        return training

    def _with_less_memory(self) -> Training:
        half = self.micro_batch // 2
        if self.device.type == "cuda":
            torch.cuda.empty_cache()
        if half < 1:
            raise MicroBatchTooSmall(f"trial {self.trial.id} does not fit this device's memory even one image at a time")
        self.micro_batch = chunk(self.trial.network, self.trial.recipe, self.batch, half, self.how.processes)
        self.say(f"out of memory: micro-batch reduced to {self.micro_batch}")
        with gate():
            return self._training()

    def _validate(self, training: Training) -> float | None:
        if not len(self.feeds["validation"]):
            return None
        if training.group:
            training.group.tell(VALIDATE)
        return validate(training, self.feeds["validation"], self.augment)

    def _predict(self, weights: dict[str, torch.Tensor], split_name: str) -> Predictions:
        if split_name == "test" and "test" not in self.feeds:
            self.feeds["test"] = Feed(self.prepared, "test", np.arange(self.prepared.test), self.device)
        return predict(trained(self.trial, weights, self.device), self.feeds[split_name], self.augment, self.trial.recipe)

    def _mend_curve(self) -> None:
        """Drop a torn last line, so that what is appended stands on a line of its own."""
        path = self.folder / "curve.jsonl"
        if path.exists():
            text = "".join(json.dumps(record) + "\n" for record in self.store.curve(self.trial.id))
            write_atomic(path, lambda file: file.write(text.encode()))

    def _train_epoch(self, training: Training) -> dict[str, Any]:
        """Train an epoch and add it to the curve; where it diverged its loss is None. The curve comes before the checkpoint, so no epoch
        that is not trained again is missing."""
        with self._together():
            epoch = training.train_epoch()
            finite = math.isfinite(epoch.loss)
            top1 = self._validate(training) if finite else None
        record = {
            "epoch": epoch.epoch,
            "loss": epoch.loss if finite else None,
            "lr": epoch.lr,
            "top1": top1,
            "images": epoch.images,
            "seconds": round(epoch.seconds, 4),
        }
        append(self.folder / "curve.jsonl", json.dumps(record) + "\n")
        return record

    def _checkpoint(self, training: Training) -> None:
        buffer = BytesIO()
        torch.save(training.state() | {"trial": self.trial.id, "taken": self.taken}, buffer)
        write_atomic(self.folder / "checkpoint.pt", lambda file: file.write(buffer.getbuffer()))

    def _finish(self, weights: dict[str, torch.Tensor]) -> TrialResult:
        """Score, keep what is wanted later, and write the result last."""
        known = self.store.result(self.trial.id)
        scores: dict[str, Score] = dict(known.scores) if known else {}
        stored: dict[str, Any] = {}
        path = self.folder / "predictions.npz"
        if path.exists() and known:
            with np.load(path) as old:
                stored = dict(old)
        for name in self.splits:
            if name in scores:
                continue
            if name == "test":
                self.store.count_test_scoring(self.trial, name)
            with gate():
                predictions = self._predict(weights, name)
            scores[name] = predictions.score()
            stored[f"{name}_correct"] = np.packbits(predictions.correct)
            stored[f"{name}_probability"] = predictions.probability
        buffer = BytesIO()
        np.savez(buffer, **stored)
        write_atomic(path, lambda file: file.write(buffer.getbuffer()))
        tensors = {k: v.detach().cpu().contiguous() for k, v in weights.items()}
        write_atomic(self.folder / "weights.safetensors", lambda file: file.write(save(tensors)))
        return self._result("complete", self.trial.epochs, scores)

    def diverged(self, epoch: int) -> TrialResult:
        """Write the result of a training whose loss left the real numbers in `epoch`."""
        return self._result("diverged", epoch, {})

    def _result(self, status: Any, epochs: int, scores: dict[str, Score]) -> TrialResult:
        curve = self.store.curve(self.trial.id)
        seconds = sum(r["seconds"] for r in curve)
        result = TrialResult(
            id=self.trial.id,
            status=status,
            epochs=epochs,
            scores=scores,
            diverged_epoch=epochs if status == "diverged" else None,
            seconds=round(seconds, 3),
            images_per_second=round(sum(r["images"] for r in curve) / max(seconds, 1e-9), 1),
            attempts=self.attempt,
            finished=datetime.now(UTC).isoformat(timespec="seconds"),
            execution=Execution(
                device=device_name(self.device),
                threads=self.how.threads,
                micro_batch=self.micro_batch,
                executor=self.how.executor,
                host=socket.gethostname(),
                compiled=self.compiled,
                versions=versions(),
                processes=self.how.processes,
            ),
            events=tuple(self.events),
            epochs_taken=self.taken,
        )
        write_json(self.folder / "result.json", result.to_dict())
        remove(self.folder / "checkpoint.pt")
        return result
