"""Records: what trials found, kept in Parquet that is whole or absent."""
