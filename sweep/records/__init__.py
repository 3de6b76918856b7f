"""Records: the results of trials, stored as Parquet files that are complete or absent."""
