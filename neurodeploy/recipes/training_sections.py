"""The other sections of a recipe, beside [data] and [network]: one class for each choice."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Annotated, Literal

from neurodeploy.strict_tables import (
    Factor,
    Name,
    NotNegativeFloat,
    NotNegativeInt,
    PositiveFloat,
    PositiveInt,
    Range,
    Share,
    ShareBelowOne,
    Text,
)


@dataclass(frozen=True, slots=True, kw_only=True)
class RunSection:
    """Name and seed: [recipe].

    Attributes:
        name: Names the run's directory.
        description: One line for lists of recipes.
        seed: Start of every random number of the run: validation split, initial weights, order
            of the samples, augmentation.
    """

    name: Name
    description: str = ""
    seed: NotNegativeInt = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class RectangularSurrogate:
    """1 / width within width / 2 of the threshold: [neuron.surrogate].

    Attributes:
        name: The shape of the surrogate gradient.
        width: The paper's a.
    """

    name: Literal["rectangular"] = "rectangular"
    width: Factor = 1.0


@dataclass(frozen=True, slots=True, kw_only=True)
class TriangularSurrogate:
    """A triangle up to twice the threshold: [neuron.surrogate].

    Attributes:
        name: The shape of the surrogate gradient.
        height: The paper's gamma.
    """

    name: Literal["triangular"]
    height: Factor = 1.0


@dataclass(frozen=True, slots=True, kw_only=True)
class TanhSurrogate:
    """The derivative of a tanh step: [neuron.surrogate].

    Attributes:
        name: The shape of the surrogate gradient.
        height: The paper's k.
        slope: Factor on the voltage inside the tanh; larger ones are narrower.
    """

    name: Literal["tanh"]
    height: Factor = 1.0
    slope: Factor = 2.0


@dataclass(frozen=True, slots=True, kw_only=True)
class TanhPrintedSurrogate:
    """The paper's third formula exactly as printed, for comparison: [neuron.surrogate].

    Attributes:
        name: The shape of the surrogate gradient.
        height: The paper's k.
    """

    name: Literal["tanh_printed"]
    height: Factor = 1.0


@dataclass(frozen=True, slots=True, kw_only=True)
class ExponentialSurrogate:
    """SLAYER's surrogate: [neuron.surrogate].

    Attributes:
        name: The shape of the surrogate gradient.
        tau_grad: Its width, in hundreds of thresholds.
        scale_grad: Its height, in tenths.
    """

    name: Literal["exponential"]
    tau_grad: Factor = 1.0
    scale_grad: Factor = 1.0


SurrogateSection = (
    RectangularSurrogate
    | TriangularSurrogate
    | TanhSurrogate
    | TanhPrintedSurrogate
    | ExponentialSurrogate
)


@dataclass(frozen=True, slots=True, kw_only=True)
class LifNeuronSection:
    """The paper's neuron: u ← τu + Wx, a spike where u > V_th, reset to zero: [neuron].

    Attributes:
        model: The kind of neuron.
        tau: τ, the share of the voltage that stays from step to step.
        threshold: V_th.
        surrogate: Stands in place of the derivative of the spike; see [neuron.surrogate].
    """

    model: Literal["lif"] = "lif"
    tau: Share = 0.5
    threshold: Factor = 0.5
    surrogate: SurrogateSection = field(default_factory=RectangularSurrogate)


@dataclass(frozen=True, slots=True, kw_only=True)
class CubaNeuronSection:
    """Current-based leaky integrate-and-fire with SLAYER's `neuron_params`: [neuron].

    Attributes:
        model: The kind of neuron.
        threshold: In SLAYER's units.
        current_decay: Share of the current that is lost in each step.
        voltage_decay: Share of the voltage that is lost in each step.
        tau_grad: Width of the exponential surrogate, in hundreds of thresholds.
        scale_grad: Height of the exponential surrogate, in tenths.
        scale: Integer weight units in one unit of weight.
    """

    model: Literal["cuba"]
    threshold: Factor
    current_decay: Share
    voltage_decay: Share
    tau_grad: Factor = 1.0
    scale_grad: Factor = 1.0
    scale: Annotated[int, Range(minimum=1, maximum=1 << 20)] = 64


NeuronSection = LifNeuronSection | CubaNeuronSection


@dataclass(frozen=True, slots=True, kw_only=True)
class ShortcutSection:
    """Branches during training: [shortcut].

    Attributes:
        method: "vanilla": no branches. "shortcut": the branches are added with a constant
            weight. "evolutionary": with a weight that falls linearly to zero.
        weight: λ. By default 1 for "shortcut" (eq. 6 of the paper) and 0.25 for "evolutionary".
        schedule: How λ runs through the iterations: a name that
            `neurodeploy.learning.schedules` knows, such as "constant", "linear" or "cosine". By
            default that of the method.
        after: Blocks that get a branch: "stage": the last of each stage, "block": each one,
            both without the last of the network; or a list of names. Has no effect for
            "vanilla".
        loss: "joint": of the sum of all outputs, as in the paper. "separate", an addition of
            ours: the loss of the main output, and λ times that of each branch by itself.
    """

    method: Literal["vanilla", "shortcut", "evolutionary"] = "vanilla"
    weight: NotNegativeFloat | None = None
    schedule: Text | None = None
    after: Literal["stage", "block"] | tuple[str, ...] = ()
    loss: Literal["joint", "separate"] = "joint"


@dataclass(frozen=True, slots=True, kw_only=True)
class CrossEntropyLoss:
    """Cross-entropy of the output's mean over time: [training.loss].

    Attributes:
        name: The loss.
    """

    name: Literal["cross_entropy"] = "cross_entropy"


@dataclass(frozen=True, slots=True, kw_only=True)
class TetLoss:
    """Temporal efficient training: the mean of each step's cross-entropy: [training.loss].

    Attributes:
        name: The loss.
        weight: λ: share of the regulariser, the squared distance of each step's output to `target`.
        target: φ, the value that the regulariser draws outputs to.
    """

    name: Literal["tet"]
    weight: Share = 0.05
    target: float = 1.0


LossSection = CrossEntropyLoss | TetLoss


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainingSection:
    """Optimisation: [training].

    Attributes:
        epochs: Passes over the training part.
        batch_size: Largest number of samples in a batch, all processes together; an epoch's
            batches differ by one.
        accumulate: Parts of a batch that are computed one after the other, to save memory;
            batch norm then sees a part at a time.
        optimizer: "sgd", with momentum, or "adamw".
        learning_rate: At the first iteration.
        momentum: Of SGD; the first beta of AdamW.
        weight_decay: On weights, never on biases, thresholds or batch norm.
        schedule: "cosine": from `learning_rate` to zero, iteration by iteration. "constant": the
            same throughout.
        loss: What is minimised; see [training.loss].
        label_smoothing: Share of the target that is spread over all classes.
        keep: Which weights go on to deployment: "best" on the validation part, or "last".
        threads: For torch; 0 leaves torch's own choice.
        checkpoint_activations: Keep only what enters each block and run the block again in the
            backward pass: less memory, more time, the same result.
        compile: Run blocks through torch.compile (torch 2.14 or newer). Unset: on CUDA where
            Triton is installed, and not on CPUs, where our own kernels are faster; a resumed
            training goes on as it began.
    """

    epochs: NotNegativeInt
    batch_size: PositiveInt = 32
    accumulate: PositiveInt = 1
    optimizer: Literal["sgd", "adamw"] = "sgd"
    learning_rate: Factor = 0.1
    momentum: ShareBelowOne = 0.9
    weight_decay: NotNegativeFloat = 1e-4
    schedule: Literal["cosine", "constant"] = "cosine"
    loss: LossSection = field(default_factory=CrossEntropyLoss)
    label_smoothing: ShareBelowOne = 0.0
    keep: Literal["best", "last"] = "best"
    threads: Annotated[int, Range(minimum=0, maximum=1024)] = 0
    checkpoint_activations: bool = False
    compile: bool | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class PruningSection:
    """Weights and channels to take out: [pruning].

    Attributes:
        sparsity: Share of the weights that become zero, smallest first.
        scope: "global": of all layers together. "layer": of each layer.
        pattern: "N:M", N of every M inputs are kept, instead of a share; empty for none.
        schedule: "gradual": while training, along a cubic curve. "one_shot": at deployment, before
            the fine-tune.
        begin: Share of the iterations after which gradual pruning begins.
        end: Share of the iterations at which its full sparsity is reached.
        interval: Iterations between two steps of gradual pruning.
        channels: Share of each layer's channels that deployment takes out, before the fine-tune.
    """

    sparsity: ShareBelowOne = 0.0
    scope: Literal["global", "layer"] = "global"
    pattern: str = ""
    schedule: Literal["gradual", "one_shot"] = "gradual"
    begin: Share = 0.2
    end: Share = 0.7
    interval: PositiveInt = 10
    channels: ShareBelowOne = 0.0

    @property
    def is_gradual(self) -> bool:
        """True if weights are taken out while training."""
        return self.schedule == "gradual" and bool(self.sparsity or self.pattern)

    @property
    def is_one_shot(self) -> bool:
        """True if deployment takes weights or channels out."""
        weights = self.schedule == "one_shot" and bool(self.sparsity or self.pattern)
        return weights or self.channels > 0

    @property
    def is_any(self) -> bool:
        """True if any weights or channels are taken out."""
        return self.is_gradual or self.is_one_shot


@dataclass(frozen=True, slots=True, kw_only=True)
class QuantizationSection:
    """From floats to integers: [quantization].

    Attributes:
        target: Name of the chip in `hardware/targets`, or the path of a target's TOML file.
        weight_bits: Of weights that may have either sign.
        accuracy_budget: Take the fewest bits that cost at most this much validation accuracy
            against `weight_bits`, as a share (0.01 is one point); 0 searches for none.
        clipping: How far out a weight may lie before it is clipped, which leaves finer steps to
            the others. "max": none is clipped. "percentile": all but `percentile` of them.
            "mse": where the squared error of the rounded weights is smallest.
        percentile: Of |weights| that "percentile" keeps.
        accuracy_loss_limit: Deployment fails if the integers lose more validation accuracy against
            the floats than this share, beyond what chance explains for so many samples; 0.1 is
            ten points, 1 accepts any loss.
        margin: How many times larger than on the calibration samples a state may become before
            it wraps or clips.
        calibration_samples: Training samples from which each layer's scale is chosen.
        fine_tune_epochs: Epochs of training with the integer arithmetic as forward pass.
        fine_tune_learning_rate: At the first iteration of that fine-tune.
    """

    target: Text = "loihi2"
    weight_bits: Annotated[int, Range(minimum=2, maximum=8)] = 8
    accuracy_budget: ShareBelowOne = 0.0
    clipping: Literal["max", "percentile", "mse"] = "max"
    percentile: Annotated[float, Range(above=0, maximum=100)] = 99.9
    accuracy_loss_limit: Share = 0.1
    margin: Annotated[float, Range(minimum=1)] = 1.5
    calibration_samples: PositiveInt = 256
    fine_tune_epochs: NotNegativeInt = 0
    fine_tune_learning_rate: Factor = 0.001


@dataclass(frozen=True, slots=True, kw_only=True)
class VerificationSection:
    """Comparison with Lava: [verification].

    Attributes:
        backend: "lava": compare every spike with real Lava. "none": do without.
        lava_samples: Test samples that run on Lava too.
        lava_python: Interpreter that has Lava; by default that of `neurodeploy lava install`.
    """

    backend: Literal["lava", "none"] = "lava"
    lava_samples: PositiveInt = 64
    lava_python: Text | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class PaperTarget:
    """A published accuracy: an entry of [paper] `targets`.

    Attributes:
        accuracy: Mean over the trials, in percent.
        spread: Standard deviation over the trials, in points, where the place states one.
        place: Where the text has the figure, such as "Table 2".
    """

    accuracy: PositiveFloat
    spread: PositiveFloat | None = None
    place: Text

    def __str__(self) -> str:
        return f"{self.accuracy:.2f}" + (f" ± {self.spread:.2f}" if self.spread else "")


@dataclass(frozen=True, slots=True, kw_only=True)
class SettingSources:
    """The text behind each setting of a recipe, as dotted keys: [paper.settings].

    Attributes:
        v1: Those of the paper's first version (arXiv 2401.04486v1).
        neurips: Those of its later text for NeurIPS 2024.
        authors_code: Those of the authors' other public repositories.
        ours: Those that none of these texts state.
    """

    v1: tuple[Text, ...] = ()
    neurips: tuple[Text, ...] = ()
    authors_code: tuple[Text, ...] = ()
    ours: tuple[Text, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class PaperSection:
    """The published result that a recipe is to reproduce: [paper]; training does not read it.

    Attributes:
        text: The text that has this experiment: "v1" (arXiv 2401.04486v1, with its tables) or
            "NeurIPS" (the later text for NeurIPS 2024).
        targets: Its accuracies. Two where the paper contradicts itself; none where the figure is
            not established.
        settings: The text behind each setting; see [paper.settings].
        note: Further remarks on the row or the target.
        trials: Seeds whose mean is compared with the target.
        gpu_hours: Rough estimate for all trials; see training/README.md.
    """

    text: Literal["v1", "NeurIPS"]
    targets: tuple[PaperTarget, ...] = ()
    settings: SettingSources = field(default_factory=SettingSources)
    note: str = ""
    trials: PositiveInt = 3
    gpu_hours: PositiveFloat
