"""What only people know of a dataset: names, licences and limits. It changes no byte of a shard."""

from __future__ import annotations

from pydantic import Field

from dad_datasets.settings import Settings


class OriginSettings(Settings):
    """Something that the dataset was made from."""

    name: str | None = Field(None, description="What it is called, such as ImageNet-1k.")
    license: str | None = Field(None, description="Its licence, in words.")
    url: str | None = Field(None, description="Where it comes from.")


class CardSettings(Settings):
    """For the data card and the report; whatever is left out is said to be unknown."""

    pretty_name: str | None = Field(None, min_length=1, description="The dataset's name for people.")
    license: str | None = Field(
        None,
        pattern=r"^[a-z0-9][a-z0-9.+-]*$",
        description="Licence of the dataset as Hugging Face writes it: cc-by-4.0, mit, other.",
    )
    source: OriginSettings = OriginSettings()
    teacher: OriginSettings = OriginSettings()
    quantizer: OriginSettings = OriginSettings()
    notes: str | None = Field(None, description="Whatever else its readers should know, as Markdown.")
