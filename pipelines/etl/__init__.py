"""Ingestion as one step of an ETL job: plain functions with plain arguments, for whatever runs the job.

Airflow, Dagster, Prefect and the like call `ingest_folder` as one of their tasks; nothing of them is needed here.
`dlt_resource` hands records to dlt, and `ray_dataset` makes a Ray dataset of them. docs/etl.md shows each.
"""

from pipelines.etl.cluster import ray_dataset
from pipelines.etl.loading import dlt_resource
from pipelines.etl.tasks import ingest_folder

__all__ = ["dlt_resource", "ingest_folder", "ray_dataset"]
