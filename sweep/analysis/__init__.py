"""Analysis: from records to summaries, comparisons, claims and doubts; pure."""
