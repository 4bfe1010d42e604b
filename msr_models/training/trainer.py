"""Train a model on the rows of a window: early stopping on `select_on`, best epoch's weights kept."""

from __future__ import annotations

import copy
import logging
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass

import torch
from torch import Tensor

from msr_models.data.batch import Batch
from msr_models.data.order import batch_length, num_batches
from msr_models.data.prefetch import Prefetch
from msr_models.data.source import ResidentRows, TrainingData
from msr_models.models.base import MultiScenarioModel
from msr_models.models.logistic_regression import LogisticRegression
from msr_models.training.optimiser import Optimiser, OptimiserConfig
from msr_models.training.prediction import validate
from msr_models.training.processes import Processes
from msr_models.training.progress import EpochProgress
from msr_models.training.schedule import Schedule
from msr_models.training.start import prepare
from msr_models.training.state import Best, Resume, TrainingState, random_states, restore_random_state
from msr_models.training.step import make_step
from msr_models.training.validation import Validated
from schemas.errors import TrainingError
from schemas.pipeline_spec import TrainerConfig

log = logging.getLogger(__name__)

# Steps between two checks of the loss: a check waits for the device.
CHECK_EVERY = 50


@dataclass(frozen=True, kw_only=True, slots=True)
class TrainResult:
    """The kept epoch and its validation metrics; the model holds its weights.

    epochs: 1-based; 0: the weights it started with; of a regression the place of its L2 strength. waiting_seconds: part
    of train_seconds in which the step had no batch to work on.
    """

    epochs: int
    validation_auc: float | None
    validation_logloss: float
    validation_calibrated_logloss: float
    train_rows: int
    train_seconds: float
    waiting_seconds: float = 0.0

    @property
    def validation(self) -> Validated:
        """The kept epoch's validation."""
        return Validated(
            auc=self.validation_auc,
            logloss=self.validation_logloss,
            calibrated_logloss=self.validation_calibrated_logloss,
        )


def train(
    model: MultiScenarioModel,
    data: TrainingData,
    validation: ResidentRows,
    config: TrainerConfig,
    *,
    processes: Processes | None = None,
    resume: Resume | None = None,
    name: str = "",
    on_epoch: Callable[[int, float], None] | None = None,
) -> TrainResult:
    """Train `model` in place; rows with shared_B visit all towers.

    A model's pretraining epochs (see MultiScenarioModel) count as epochs, but none of them is kept, and after them the
    optimiser starts anew. Deterministic on a CPU given the arguments and the number of threads, also when it was killed
    and resumed. name: what log lines begin with. on_epoch: called after each epoch that may be kept (1-based) with its
    validation score, before its state is saved; what it raises ends the training. Raises TrainingError for labels of
    one class, for a loss that is not finite (naming epoch and batch), and where all epochs would be pretraining.
    """
    data.require_both_labels()
    if config.max_epochs <= model.pretraining_epochs:
        raise TrainingError(
            f"training.max_epochs {config.max_epochs} leaves no epoch after the model's pretraining_epochs "
            f"{model.pretraining_epochs}; raise max_epochs of the data set or lower the model's option"
        )
    started = time.perf_counter()
    fit = prepare(model, data, validation, config, name)
    if fit is not None and isinstance(model, LogisticRegression):
        return TrainResult(
            epochs=fit.place,
            validation_auc=fit.validation.auc,
            validation_logloss=fit.validation.logloss,
            validation_calibrated_logloss=fit.validation.calibrated_logloss,
            train_rows=data.num_rows,
            train_seconds=time.perf_counter() - started,
        )
    with torch.random.fork_rng():
        run = _Training(model, data, validation, config, processes or Processes(), resume, name)
        run.on_epoch = on_epoch
        return run.run(from_start=fit is not None)


class _Training:
    """One run: the model, its optimiser and the training state."""

    on_epoch: Callable[[int, float], None] | None = None

    def __init__(
        self,
        model: MultiScenarioModel,
        data: TrainingData,
        validation: ResidentRows,
        config: TrainerConfig,
        processes: Processes,
        resume: Resume | None,
        name: str,
    ) -> None:
        self.model, self.data, self.validation = model, data, validation
        self.config, self.processes, self.resume, self.name = config, processes, resume, name
        self.device = next(model.parameters()).device
        # Read before a state is loaded: the model of a later epoch is past its pretraining.
        self.pretraining_epochs = model.pretraining_epochs
        self._start_optimiser()
        self.batches_per_epoch = num_batches(data.num_rows, config.batch_size)
        total = config.max_epochs * self.batches_per_epoch
        # Before a state is loaded: a resumed model brings its own plan
        model.plan_steps(total)
        self.schedule = Schedule(kind=config.schedule, warmup_steps=config.warmup_steps, total_steps=total)
        self.state = self._first_state()
        self.started = time.perf_counter() - self.state.seconds

    def _start_optimiser(self) -> None:
        config = self.config
        self.optimiser = Optimiser(self.model, OptimiserConfig.of(config, self.model.learning_rate_scale))
        self.step = make_step(
            self.model,
            self.optimiser,
            config.precision,
            config.batch_size,
            self.processes,
            config.loss_balance,
            [config.labels.weights.get(label, 1.0) for label in self.model.further_labels],
            config.tower_reduction,
            self.data.negatives_kept,
        )

    def _first_state(self) -> TrainingState:
        state = self.resume.load() if self.resume else None
        if state is None or len(state.random) != self.processes.world:
            torch.manual_seed(self.config.seed + self.processes.rank)
            return TrainingState(identity=self.resume.identity if self.resume else "")
        self.model.load_state_dict(state.model)
        self.optimiser.load_state_dict(state.optimiser)
        restore_random_state(state.random[self.processes.rank], self.device)
        self._log(f"resuming the interrupted run at epoch {state.epoch}, batch {state.batch + 1}")
        return state

    def run(self, *, from_start: bool = False) -> TrainResult:
        """Epochs until the last or until validation stops improving. from_start: what the model starts as may be kept,
        as epoch 0.
        """
        state = self.state
        if from_start and state.best is None:
            self._validate(None)
        while state.epoch <= self.config.max_epochs and not self._is_over():
            if state.epoch == self.pretraining_epochs + 1 and state.batch == 0 and self.pretraining_epochs:
                self.model.end_pretraining()
                self._start_optimiser()
            loss = self._epoch()
            self._validate(loss)
            state.epoch, state.batch, state.loss_sum = state.epoch + 1, 0, 0.0
            self._save()
        best = state.best
        assert best is not None
        self.model.load_state_dict(best.weights)
        return TrainResult(
            epochs=best.epoch,
            validation_auc=best.auc,
            validation_logloss=best.logloss,
            validation_calibrated_logloss=best.calibrated_logloss,
            train_rows=self.data.num_rows,
            train_seconds=time.perf_counter() - self.started,
            waiting_seconds=state.waiting_seconds,
        )

    def _log(self, message: str) -> None:
        log.info(f"{self.name} {message}".lstrip())

    def _is_over(self) -> bool:
        best = self.state.best
        return best is not None and self.state.epoch - 1 - best.epoch > self.config.patience

    def _epoch(self) -> float:
        """The rest of the state's epoch; returns the mean loss over rows."""
        state, config = self.state, self.config
        self.model.train()
        losses: list[Tensor] = []
        done_rows = min(state.batch * config.batch_size, self.data.num_rows)
        title = f"epoch {state.epoch}/{config.max_epochs}"
        shown = EpochProgress(f"{self.name} {title}".lstrip(), self.data.num_rows, done_rows)
        for batch in self._batches():
            rows = batch_length(self.data.num_rows, config.batch_size, state.batch)
            if not self.schedule.is_constant:
                self.optimiser.set_learning_rate_factor(self.schedule.factor(state.steps))
            losses.append(self.step(batch, rows) * rows)
            state.batch += 1
            state.steps += 1
            shown.advance(rows)
            saves = self.resume is not None and self.resume.every_steps and state.steps % self.resume.every_steps == 0
            if saves or len(losses) == CHECK_EVERY or state.batch == self.batches_per_epoch:
                state.loss_sum += _checked_sum(losses, state.epoch, state.batch - len(losses))
                losses = []
            if saves and state.batch < self.batches_per_epoch:
                self._save()
        shown.close()
        return state.loss_sum / self.data.num_rows

    def _batches(self) -> Iterator[Batch]:
        """Batches from the state's position on; the time spent waiting for them is counted."""
        state, config, processes = self.state, self.config, self.processes
        source = self.data.batches(
            config.batch_size,
            config.seed,
            state.epoch,
            first_batch=state.batch,
            rank=processes.rank,
            world=processes.world,
        )
        # Batches made on the model's device need no copy; others are copied while the step before them runs.
        coming: Iterator[Batch] = source if self.data.device.type == self.device.type else Prefetch(source, self.device)
        while True:
            waiting_since = time.perf_counter()
            batch = next(coming, None)
            state.waiting_seconds += time.perf_counter() - waiting_since
            if batch is None:
                return
            yield batch

    def _validate(self, loss: float | None) -> None:
        """Of the epoch that ended with the mean loss; None: of the weights before the first one."""
        with self.optimiser.averaged():
            self._validate_weights(loss)

    def _validate_weights(self, loss: float | None) -> None:
        state, config = self.state, self.config
        epoch = state.epoch if loss is not None else 0
        found = validate(self.model, self.validation.window, self.validation.rows, config.calibration)
        score = found.score(config.select_on)
        trained = "as it starts"
        if loss is not None:
            rate = state.epoch * self.data.num_rows / (time.perf_counter() - self.started)
            trained = f"train loss {loss:.4f}, {rate:,.0f} rows/s"
        shown = "none" if found.auc is None else f"{found.auc:.4f}"
        self._log(
            f"epoch {epoch}/{config.max_epochs}: {trained}, validation mean AUC {shown}, "
            f"logloss {found.logloss:.4f} ({found.calibrated_logloss:.4f} calibrated)"
        )
        if 0 < epoch <= self.pretraining_epochs:
            return
        if state.best is None or score > state.best.score:
            weights = copy.deepcopy(self.model.state_dict())
            state.best = Best(score=score, epoch=epoch, weights=weights, **asdict(found))
        if self.on_epoch is not None and epoch > 0:
            self.on_epoch(epoch, score)

    def _save(self) -> None:
        if self.resume is None:
            return
        state = self.state
        state.random = random_states(self.processes, self.device)
        if self.processes.is_main:
            state.seconds = time.perf_counter() - self.started
            state.model, state.optimiser = self.model.state_dict(), self.optimiser.state_dict()
            self.resume.save(state)
            state.model, state.optimiser = {}, {}


def _checked_sum(losses: list[Tensor], epoch: int, batches_before: int) -> float:
    values = torch.stack(losses)
    broken = (~torch.isfinite(values)).nonzero()
    if len(broken):
        batch = batches_before + int(broken[0]) + 1
        raise TrainingError(
            f"the loss is not finite in epoch {epoch}, batch {batch}; lower training.learning_rate of the data set"
        )
    return float(values.double().sum())
