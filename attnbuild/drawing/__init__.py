"""Pictures as PNG: alignments, heatmaps, coloured words, confusion matrices. Knows no model and no task."""
