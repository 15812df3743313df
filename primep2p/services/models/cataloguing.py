"""What is told of models: in one line, and in full."""

from collections.abc import Sequence

from primep2p.model.ids import PeerId
from primep2p.model.shelf import Catalog, ModelVersion
from primep2p.model.views.models import Certified, ModelDetail, ModelSummary, VersionView
from primep2p.services.models.naming import Meaning
from primep2p.store.seam import BlobStore

__all__ = ["detail", "summary"]


def summary(owner: PeerId, name: str, catalog: Catalog | None, here: Sequence[str], *, own: bool) -> ModelSummary:
    """A model in one line; `here` are the versions that are kept."""
    return ModelSummary(
        owner=owner,
        name=name,
        own=own,
        latest=catalog.latest if catalog else "",
        versions=len(catalog.versions) if catalog else len(here),
        here=list(here),
    )


def detail(
    meaning: Meaning, versions: Sequence[tuple[ModelVersion, Certified]], blobs: BlobStore, *, own: bool
) -> ModelDetail:
    """A model in full, with those of its versions that are asked for."""
    catalog, record = meaning.catalog, meaning.record.record
    return ModelDetail(
        owner=catalog.owner,
        name=catalog.name,
        own=own,
        sequence=record.sequence,
        announced=meaning.announced,
        catalog=record.catalog or "",
        latest=catalog.latest,
        versions=[
            VersionView(
                version=version.label,
                latest=version.label == catalog.latest,
                here=blobs.has(version.params),
                params=version.params,
                size_bytes=version.size_bytes,
                schema=version.schema.hex(),
                trainer=version.trainer,
                trainer_config=version.trainer_config,
                metrics={metric.name: metric.value for metric in version.metrics},
                published_at=version.at_s,
                run=version.run.hex(),
                round=version.round,
                header=version.header.hex(),
                certified=certified,
            )
            for version, certified in versions
        ],
    )
