"""The recurrent model: scaling, transform, calendar, a stack of cells, a head.

Shapes: B batch, T window, F features, H hidden size, K horizons, L interval levels.
"""

from typing import NamedTuple

import msgspec
import torch
from torch import Tensor, nn

from training import calendar
from training.cells import CELL_KINDS, HAND_WRITTEN, State
from training.head import INTERVALS, Head, Said
from training.linear_skip import LinearSkip
from training.recent_error import RecentError, RecentErrorState
from training.scaling import SCALINGS, Ruler, Scaling, SeriesScaling
from training.stack import CellStack, TorchStack
from training.transform import TRANSFORMS, Transform, TransformState

__all__ = ["CellStack", "ModelConfig", "ModelState", "Prediction", "RecurrentModel", "TorchStack"]


SIZES = ("window", "num_features", "hidden_size", "num_layers", "transition_depth", "output_depth", "horizon")


class ModelConfig(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Everything that fixes a model's shape. Raises ValueError naming the field, its value and the limit.

    `transition_depth` cells run in each step of a layer, `output_depth` layers turn the top output into predictions,
    `horizon` values ahead are predicted directly; `linear_skip` adds what is linear in the window. `calendar` names
    cycles of `training.calendar`, `scaling` one of `training.scaling` (of `num_series` series). `levels` are the shares
    of values that intervals shall hold.
    """

    cell: str
    window: int
    num_features: int
    hidden_size: int
    num_layers: int
    transform: str
    transition_depth: int = 1
    residual: bool = False
    output_depth: int = 1
    horizon: int = 1
    calendar: tuple[str, ...] = ()
    scaling: str = "fit"
    num_series: int = 0
    intervals: str = "none"
    levels: tuple[float, ...] = ()
    linear_skip: bool = False

    def __post_init__(self) -> None:
        """Refuse what cannot be built."""
        self._check_words()
        for name in SIZES:
            if getattr(self, name) < 1:
                raise ValueError(f"{name} is {getattr(self, name)}; it must be at least 1")
        if self.residual and self.num_layers < 2:
            raise ValueError(f"residual connects layers and num_layers is {self.num_layers}; it must be at least 2")
        if self.cell not in HAND_WRITTEN and (self.residual or self.transition_depth > 1):
            raise ValueError(
                f"cell is {self.cell!r}, which is torch's own; residual and transition_depth need one of "
                f"{', '.join(HAND_WRITTEN)}"
            )
        if self.scaling == "window" and self.window < 2:
            raise ValueError(f"window is {self.window}; scaling 'window' needs at least 2 values to measure")
        if (self.scaling == "series") != (self.num_series > 0):
            raise ValueError(f"num_series is {self.num_series}; scaling 'series' needs at least 1 and the others none")
        if (self.intervals == "none") != (not self.levels):
            raise ValueError(
                f"levels are {list(self.levels)}; intervals {self.intervals!r} take "
                + ("none" if self.levels else "at least one")
            )
        self._check_normalized()
        if list(self.levels) != sorted(set(self.levels)) or not all(0 < level < 1 for level in self.levels):
            raise ValueError(f"levels are {list(self.levels)}; they must grow and lie between 0 and 1")

    def _check_normalized(self) -> None:
        if self.intervals != "normalized":
            return
        if self.window < 2:
            raise ValueError(f"window is {self.window}; intervals 'normalized' need 2 values or more")
        for name, known in (("transform", TRANSFORMS), ("scaling", SCALINGS)):
            if not known[getattr(self, name)].steppable:
                raise ValueError(
                    f"intervals are 'normalized', which go by what is said of each value in turn; {name} "
                    f"{getattr(self, name)!r} needs the whole window"
                )

    def _check_words(self) -> None:
        for name, choices in (
            ("cell", CELL_KINDS),
            ("transform", tuple(TRANSFORMS)),
            ("scaling", tuple(SCALINGS)),
            ("intervals", INTERVALS),
        ):
            if getattr(self, name) not in choices:
                raise ValueError(f"{name} is {getattr(self, name)!r}; it must be one of {', '.join(choices)}")
        if not set(self.calendar) <= set(calendar.CYCLES) or len(set(self.calendar)) != len(self.calendar):
            raise ValueError(f"calendar is {list(self.calendar)}; it takes each of {', '.join(calendar.CYCLES)} once")

    @property
    def input_size(self) -> int:
        """Channels that the first layer reads: of the features and of the calendar."""
        own = self.num_features * TRANSFORMS[self.transform].channels_per_feature
        return own + calendar.num_channels(self.calendar)


class ModelState(msgspec.Struct, frozen=True):
    """All that is carried between two steps: every layer's state, the transform's and the recent error's, if any."""

    layers: list[State]
    transform: TransformState
    recent_error: RecentErrorState | None = None


class Prediction(NamedTuple):
    """What comes next, in raw units.

    `next` [B, K]; `lower` and `upper` [B, K, L], the ends of each interval, or None; `unit` [B, 1], what 1 means in
    raw units where that differs from row to row, or None.
    """

    next: Tensor
    lower: Tensor | None
    upper: Tensor | None
    unit: Tensor | None


class LossTerms(NamedTuple):
    """For the loss, in the transform's units: the output [B, K], where it should have been, and the raw spread.

    `spread` [B, 2, K, L] is None unless the model learns how far its intervals reach.
    """

    output: Tensor
    target: Tensor
    spread: Tensor | None


class RecurrentModel(nn.Module):
    """Predicts what follows in a series, in its own units, from a window [B, T, F] or one value at a time.

        ruler     = scaling(window, series)
        x, anchor = transform.encode(ruler.rule(window))
        h         = stack([x; calendar(time_seconds)])         the top layer's last output
        next      = ruler.raw(transform.decode(head(h), anchor))       with linear_skip, of head(h) + skip(x)
        ends      = next ± ruler.raw(head's distances)         times `recent_error` where intervals are normalized

    `time_seconds` int64 [B, T] (UTC) is needed with a calendar, `series` int64 [B, 1] with scaling by series.
    Stepping through a window from `initial_state` gives the same prediction as `forward`.
    """

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.config = config
        self.scaling: Scaling = SCALINGS[config.scaling](config.num_features, config.num_series)
        self.transform: Transform = TRANSFORMS[config.transform](config.num_features, config.horizon)
        self.stack: CellStack | TorchStack = (
            CellStack(
                config.cell,
                config.input_size,
                config.hidden_size,
                num_layers=config.num_layers,
                transition_depth=config.transition_depth,
                residual=config.residual,
            )
            if config.cell in HAND_WRITTEN
            else TorchStack(config.cell, config.input_size, config.hidden_size, num_layers=config.num_layers)
        )
        self.head = Head(
            config.hidden_size,
            depth=config.output_depth,
            horizon=config.horizon,
            intervals=config.intervals,
            num_levels=len(config.levels),
        )
        self.linear_skip = LinearSkip(config.window, config.input_size, config.horizon) if config.linear_skip else None
        self.recent_error = RecentError(config.window) if config.intervals == "normalized" else None

    @property
    def why_not_steppable(self) -> str:
        """Why the model cannot be fed one value at a time; empty where it can."""
        if not self.transform.steppable:
            return f"transform {self.transform.kind!r} needs the whole window"
        if not self.scaling.steppable:
            return f"scaling {self.scaling.kind!r} needs the whole window"
        if self.linear_skip is not None:
            return "linear_skip needs the whole window"
        return ""

    @property
    def needs_time(self) -> bool:
        """Whether `time_seconds` must be given."""
        return bool(self.config.calendar)

    @property
    def needs_series(self) -> bool:
        """Whether `series` must be given."""
        return isinstance(self.scaling, SeriesScaling)

    def forward(
        self, window_BTF: Tensor, time_seconds_BT: Tensor | None = None, series_B1: Tensor | None = None
    ) -> Tensor:
        """The next values, [B, K], in raw units."""
        ruler, x_BTI, anchor_B1 = self._encode(window_BTF, time_seconds_BT, series_B1)
        return self._raw_next(self._said(x_BTI), anchor_B1, ruler)

    def predict(
        self, window_BTF: Tensor, time_seconds_BT: Tensor | None = None, series_B1: Tensor | None = None
    ) -> Prediction:
        """The next values and their intervals, in raw units."""
        ruler, x_BTI, anchor_B1 = self._encode(window_BTF, time_seconds_BT, series_B1)
        if self.recent_error is None:
            return self._decode(self._said(x_BTI), anchor_B1, ruler)
        h_BH, recent_B1 = self._with_recent_error(self.recent_error, x_BTI, window_BTF, ruler)
        return self._decode(self._with_skip(self.head(h_BH), x_BTI), anchor_B1, ruler, recent_B1)

    def recent_error_after(
        self, window_BTF: Tensor, time_seconds_BT: Tensor | None = None, series_B1: Tensor | None = None
    ) -> Tensor:
        """How far off the model has been lately, [B, 1], in the transform's units; 1 where no interval asks for it."""
        if self.recent_error is None:
            return torch.ones_like(window_BTF[:, -1, :1])
        ruler, x_BTI, _ = self._encode(window_BTF, time_seconds_BT, series_B1)
        return self._with_recent_error(self.recent_error, x_BTI, window_BTF, ruler)[1]

    def _with_recent_error(
        self, recent_error: RecentError, x_BTI: Tensor, window_BTF: Tensor, ruler: Ruler | None
    ) -> tuple[Tensor, Tensor]:
        """The top layer's last output [B, H] and the recent error [B, 1]; of the other outputs, the forecasts alone."""
        states = self.stack.initial_state(x_BTI[:, 0])
        forecasts = []
        for x_BI in x_BTI.unbind(dim=1):
            h_BH, states = self.stack.step(x_BI, states)
            forecasts.append(self.head.point(self.head.features(h_BH))[:, :1])
        ruled_BTF = window_BTF if ruler is None else ruler.rule(window_BTF)
        anchors_BS = self.transform.anchors(ruled_BTF)[:, :-1, 0]
        actual_BS = self.transform.encode_next(ruled_BTF[:, 1:, 0], anchors_BS)
        forecast_BS = torch.cat(forecasts[:-1], dim=1)
        if self.linear_skip is not None:
            forecast_BS = forecast_BS + self.linear_skip.after_each(x_BTI, self.config.window)[:, :-1, 0]
        return h_BH, recent_error(forecast_BS, actual_BS)

    def loss_terms(
        self,
        window_BTF: Tensor,
        target_BK: Tensor,
        time_seconds_BT: Tensor | None = None,
        series_B1: Tensor | None = None,
    ) -> LossTerms:
        """What the loss is taken of; the spread does not shape the state that it is read from."""
        x_BTI, encoded_BK = self.lesson(window_BTF, target_BK, time_seconds_BT, series_B1)
        features_BH = self.head.features(self.stack(x_BTI))
        return LossTerms(
            output=self._plus_skip(self.head.point(features_BH), x_BTI),
            target=encoded_BK,
            spread=self.head.spread(features_BH.detach()) if self.config.intervals == "quantile" else None,
        )

    def lesson(
        self,
        window_BTF: Tensor,
        target_BK: Tensor,
        time_seconds_BT: Tensor | None = None,
        series_B1: Tensor | None = None,
    ) -> tuple[Tensor, Tensor]:
        """What the cells read, [B, T, I], and what should be said of it, [B, K], in the transform's units."""
        ruler, x_BTI, anchor_B1 = self._encode(window_BTF, time_seconds_BT, series_B1)
        ruled_BK = target_BK if ruler is None else ruler.target_ruled(target_BK)
        return x_BTI, self.transform.encode_target(ruled_BK, anchor_B1)

    def sequence_terms(
        self,
        window_BTF: Tensor,
        target_BK: Tensor,
        time_seconds_BT: Tensor | None = None,
        series_B1: Tensor | None = None,
        *,
        num_steps: int,
    ) -> LossTerms:
        """As loss_terms, taken after each of the window's last `num_steps` steps S: output and target [B, S, K].

        What follows a step lies in the window itself, so every window gives S lessons for one pass. Transform and
        scaling must be ones that can be stepped: any other would see the window's end in its middle.
        """
        ruler, x_BTI, _ = self._encode(window_BTF, time_seconds_BT, series_B1)
        ruled_BTF = window_BTF if ruler is None else ruler.rule(window_BTF)
        ruled_BK = target_BK if ruler is None else ruler.target_ruled(target_BK)
        following = torch.cat((ruled_BTF[:, :, 0], ruled_BK), dim=1)[:, 1:]
        target_BSK = following.unfold(1, self.config.horizon, 1)[:, -num_steps:]
        features_BSH = self.head.features(self.stack.outputs(x_BTI)[:, -num_steps:])
        output_BSK = self.head.point(features_BSH)
        if self.linear_skip is not None:
            output_BSK = output_BSK + self.linear_skip.after_each(x_BTI, num_steps)
        return LossTerms(
            output=output_BSK,
            target=self.transform.encode_target(target_BSK, self.transform.anchors(ruled_BTF)[:, -num_steps:]),
            spread=self.head.spread(features_BSH[:, -1].detach()) if self.config.intervals == "quantile" else None,
        )

    def _encode(
        self, window_BTF: Tensor, time_seconds_BT: Tensor | None, series_B1: Tensor | None
    ) -> tuple[Ruler | None, Tensor, Tensor]:
        ruler = self.scaling.ruler(window_BTF, series_B1)
        x_BTF, anchor_B1 = self.transform.encode(window_BTF if ruler is None else ruler.rule(window_BTF))
        return ruler, self._with_calendar(x_BTF, time_seconds_BT), anchor_B1

    def _with_calendar(self, x_BTF: Tensor, time_seconds_BT: Tensor | None) -> Tensor:
        if not self.config.calendar:
            return x_BTF
        if time_seconds_BT is None:
            raise ValueError("time_seconds is missing; a model with a calendar needs the time of each value")
        return torch.cat((x_BTF, calendar.channels(self.config.calendar, time_seconds_BT, x_BTF.dtype)), dim=2)

    def _said(self, x_BTI: Tensor) -> Said:
        return self._with_skip(self.head(self.stack(x_BTI)), x_BTI)

    def _with_skip(self, said: Said, x_BTI: Tensor) -> Said:
        return said._replace(point=self._plus_skip(said.point, x_BTI))

    def _plus_skip(self, point_BK: Tensor, x_BTI: Tensor) -> Tensor:
        return point_BK if self.linear_skip is None else point_BK + self.linear_skip(x_BTI)

    def _raw_next(self, said: Said, anchor_B1: Tensor, ruler: Ruler | None) -> Tensor:
        next_BK = self.transform.decode(said.point, anchor_B1)
        return next_BK if ruler is None else ruler.target_raw(next_BK)

    def _decode(
        self, said: Said, anchor_B1: Tensor, ruler: Ruler | None, recent_B1: Tensor | None = None
    ) -> Prediction:
        next_BK = self._raw_next(said, anchor_B1, ruler)
        unit_B1 = None if ruler is None else ruler.unit[:, :, 0]
        if said.below is None or said.above is None:
            return Prediction(next_BK, None, None, unit_B1)
        scale_BK1 = (self.transform.target_scale if unit_B1 is None else self.transform.target_scale * unit_B1)[
            ..., None
        ]
        if recent_B1 is not None:
            scale_BK1 = scale_BK1 * recent_B1[:, :, None]
        return Prediction(
            next=next_BK,
            lower=next_BK[..., None] - said.below * scale_BK1,
            upper=next_BK[..., None] + said.above * scale_BK1,
            unit=unit_B1,
        )

    def initial_state(self, value_BF: Tensor) -> ModelState:
        """All zeros: nothing seen. Raises ValueError if the model cannot be stepped."""
        if self.why_not_steppable:
            raise ValueError(f"{self.why_not_steppable}; the model cannot be stepped")
        x_BI = value_BF[:, :1].expand(-1, self.config.input_size)
        return ModelState(
            layers=self.stack.initial_state(x_BI),
            transform=self.transform.initial_state(value_BF),
            recent_error=None if self.recent_error is None else self.recent_error.initial_state(value_BF[:, :1]),
        )

    def step(
        self,
        value_BF: Tensor,
        state: ModelState,
        time_seconds_B1: Tensor | None = None,
        series_B1: Tensor | None = None,
    ) -> tuple[Prediction, ModelState]:
        """See one value [B, F]: what comes next, and the new state."""
        ruler = self.scaling.ruler(value_BF[:, None], series_B1)
        ruled_BF = value_BF if ruler is None else ruler.rule(value_BF[:, None])[:, 0]
        x_BF, anchor_B1, transform_state = self.transform.step(ruled_BF, state.transform)
        x_BI = self._with_calendar(x_BF[:, None], time_seconds_B1)[:, 0]
        h_BH, layers = self.stack.step(x_BI, state.layers)
        said = self.head(h_BH)
        if self.recent_error is None:
            return self._decode(said, anchor_B1, ruler), ModelState(layers=layers, transform=transform_state)
        assert state.recent_error is not None
        before_B1 = self.transform.anchor_before(ruled_BF, state.transform)
        excess_B1 = self.recent_error.step(self.transform.encode_next(ruled_BF[:, :1], before_B1), state.recent_error)
        recent_error = RecentErrorState(
            forecast=said.point[:, :1], excess=excess_B1, has_forecast=torch.ones_like(excess_B1)
        )
        return self._decode(said, anchor_B1, ruler, self.recent_error.usual + excess_B1), ModelState(
            layers=layers, transform=transform_state, recent_error=recent_error
        )
