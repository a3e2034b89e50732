"""Does it understand modalities together? Tasks, scoring, statistics and reports."""
