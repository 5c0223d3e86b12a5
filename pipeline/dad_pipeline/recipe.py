"""The recipe of a generation run: the YAML that describes it completely."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, field_validator, model_validator

from dad_datasets.card_settings import CardSettings
from dad_datasets.image_codec import ImageFormat
from dad_datasets.settings import Settings
from dad_datasets.sources import SourceSettings
from dad_datasets.views import ViewsSettings
from dad_pipeline.attack_settings import AttackSettings
from dad_pipeline.quantizer_checkpoint import QuantizerSettings
from dad_pipeline.teachers.settings import TeacherSettings

DeviceName = Literal["auto", "cpu", "cuda"]
PrecisionName = Literal["float32", "bfloat16"]


class AttackRecipe(AttackSettings):
    """The attack, and the model that it is made against."""

    model: TeacherSettings | None = Field(None, description="The attacked model; the labelling teacher if not given.")


class TopKLogits(Settings):
    """Keep the k largest logits, and how much probability the others hold."""

    top_k: int = Field(ge=1, le=65535, description="Number of classes kept.")
    temperatures: tuple[float, ...] = Field(
        (1.0, 4.0), min_length=1, description="Temperatures at which the mass left out is stored, for training."
    )

    @field_validator("temperatures")
    @classmethod
    def _positive(cls, value: tuple[float, ...]) -> tuple[float, ...]:
        if any(temperature <= 0 for temperature in value):
            raise ValueError("temperatures must be above 0")
        return value


class StoreSettings(Settings):
    """What a shard holds."""

    image: ImageFormat | Literal["none"] = Field(
        "webp", description="webp and png are lossless, jpg loses small perturbations; none: codes and logits only."
    )
    codes: bool = Field(True, description="Store the VQGAN's codes of the adversarial image.")
    clean: bool = Field(False, description="Store the clean canvas too (lossless WebP), for self-contained shards.")
    logits: Literal["full"] | TopKLogits = Field("full", description="All of the teacher's logits, or the k largest.")

    @model_validator(mode="after")
    def _something_to_decode(self) -> StoreSettings:
        if self.image == "none" and not self.codes:
            raise ValueError("store.image none needs store.codes true: the codes are the image then")
        if self.image == "none" and self.clean:
            raise ValueError("store.image none has no tar for the clean canvas; set store.clean false")
        return self


class ComputeSettings(Settings):
    """How the numbers are computed; every field can change last bits, none depends on the number of workers."""

    device: DeviceName = Field("auto", description="Where the models run; auto: a GPU where there is one.")
    precision: PrecisionName = Field("float32", description="bfloat16: autocast; the code search stays in float32.")
    quantizer_precision: PrecisionName | None = Field(
        None, description="Of the VQGAN, where it is not to be that of the classifiers: small budgets need float32."
    )
    batch_size: int | Literal["auto"] = Field(
        32, description="Views in one model call; auto: the most that fit a GPU, found once and kept on resume."
    )
    threads: int | Literal["auto"] = Field(
        "auto", description="torch threads of each worker; auto: this machine's cores, found once and kept on resume."
    )
    deterministic: bool = Field(True, description="Ask for deterministic kernels on a GPU (CPU runs always are).")
    compile: bool = Field(False, description="torch.compile the networks: minutes at the start, full batches faster.")

    @property
    def decoder_precision(self) -> PrecisionName:
        """What the VQGAN computes in."""
        return self.quantizer_precision or self.precision

    @property
    def views_per_call(self) -> int:
        """The batch size, which a settled recipe has."""
        assert self.batch_size != "auto", "the batch size is settled before the work starts"
        return self.batch_size

    @field_validator("batch_size")
    @classmethod
    def _of_a_batch(cls, value: int | Literal["auto"]) -> int | Literal["auto"]:
        if value != "auto" and not 1 <= value <= 65536:
            raise ValueError("expected auto or a number from 1 to 65536")
        return value

    @field_validator("threads")
    @classmethod
    def _at_least_one(cls, value: int | Literal["auto"]) -> int | Literal["auto"]:
        if value != "auto" and not 1 <= value <= 1024:
            raise ValueError("expected auto or a number from 1 to 1024")
        return value


class CheckSettings(Settings):
    """The look at the teacher before the run."""

    samples: int = Field(256, ge=0, description="Clean images scored before the run, spread over the source; 0: none.")
    allow_near_chance: bool = Field(False, description="Go on with a teacher that is no better than guessing.")


class Recipe(Settings):
    """A generation run."""

    source: SourceSettings
    class_names: Literal["imagenet"] | tuple[str, ...] | None = Field(
        None, description="Class names in the order of the labels; the source's own where it has any."
    )
    views: ViewsSettings
    teacher: TeacherSettings
    quantizer: QuantizerSettings
    attack: AttackRecipe = Field(default_factory=lambda: AttackRecipe.model_validate({}))
    store: StoreSettings = StoreSettings()
    compute: ComputeSettings = ComputeSettings()
    check: CheckSettings = CheckSettings()
    seed: int = Field(0, ge=0, description="Seed of every draw.")
    samples_per_shard: int = Field(1000, ge=1, le=1_000_000, description="Clean samples in one work unit, at most.")
    score_vqgan: Literal["first_batch", "all", "none"] = Field(
        "first_batch", description="Which views the teacher also scores after the VQGAN alone: of each unit."
    )
    max_failure_rate: float = Field(0.01, ge=0, le=1, description="Share of views that may fail before the run stops.")
    max_retries: int = Field(
        2, ge=0, le=100, description="How often a unit is tried again after it failed or its worker died."
    )
    stall_timeout_s: float | None = Field(
        1800.0, gt=0, description="A worker that ends no batch for so many seconds is killed; null: it may hang."
    )
    card: CardSettings = Field(
        CardSettings(), description="Names and licences for the data card and the report; it changes no shard."
    )
    max_image_pixels: int = Field(178_956_970, ge=1, description="Larger images are refused as decompression bombs.")

    @model_validator(mode="after")
    def _something_attacked(self) -> Recipe:
        if not any(self.views.attacked):
            raise ValueError("views.draw: at least one kind of view must be attacked (attack: true)")
        return self
