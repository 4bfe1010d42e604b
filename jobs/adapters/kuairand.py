"""Adapter `kuairand`: KuaiRand-1K, -Pure or -27K, logs joined with users and videos. See docs/public_datasets.md."""

from __future__ import annotations

from datetime import date

from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F

from jobs.adapters.downloads import NO_SIDE_RECORD, Download, beijing_time, lacks, refused, with_side_file
from jobs.adapters.raw_log import source_path
from jobs.transforms.raw_columns import required_columns
from schemas.dataset_spec import DatasetSpec

PAGE = "https://kuairand.com"
LOG = [
    *("user_id", "video_id", "date", "hourmin", "time_ms", "is_click", "is_like", "is_follow", "is_comment"),
    *("is_forward", "is_hate", "long_view", "play_time_ms", "duration_ms", "profile_stay_time", "comment_stay_time"),
    *("is_profile_enter", "is_rand", "tab"),
]
USERS = [
    *("user_active_degree", "is_lowactive_period", "is_live_streamer", "is_video_author", "follow_user_num"),
    *("follow_user_num_range", "fans_user_num", "fans_user_num_range", "friend_user_num", "friend_user_num_range"),
    *("register_days", "register_days_range"),
    *(f"onehot_feat{n}" for n in range(18)),
]
VIDEOS = [
    *("author_id", "video_type", "upload_dt", "upload_type", "visible_status", "video_duration"),
    *("server_width", "server_height", "music_id", "music_type", "tag"),
]
USER_FILE, VIDEO_FILE = "user_features_*.csv", "video_features_basic_*.csv"


def read(spark: SparkSession, dataset: DatasetSpec, ds: date) -> DataFrame:
    """All rows of the logs with the columns of their user and video, `beijing_time` beside `time_ms`.

    The log of random exposures (`log_random_*`) is read only where the YAML names `is_rand`: two exposure
    policies are mixed only where a field or a scenario distinguishes them. A row whose user or video is not in the side
    files is a refused row. Raises SourceError where a file is missing or lacks a column.
    """
    download = Download(folder=source_path(dataset, ds).rstrip("/"), page=PAGE)
    logs = download.read(spark, "log_standard_*.csv", LOG)
    if "is_rand" in required_columns(dataset):
        logs = logs.unionByName(download.read(spark, "log_random_*.csv", LOG))
    users = download.read(spark, USER_FILE, ["user_id", *USERS])
    videos = download.read(spark, VIDEO_FILE, ["video_id", *VIDEOS])
    joined = with_side_file(with_side_file(logs, users, "user_id", USERS), videos, "video_id", VIDEOS)
    missing = F.coalesce(lacks("user_id", USER_FILE), lacks("video_id", VIDEO_FILE))
    time = beijing_time("time_ms", ticks_per_second=1000).alias("beijing_time")
    return joined.select(*LOG, time, *USERS, *VIDEOS, *refused({NO_SIDE_RECORD: missing}))
