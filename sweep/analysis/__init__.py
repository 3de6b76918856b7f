"""Analysis: from records to summaries, comparisons, claims and warnings; pure."""
