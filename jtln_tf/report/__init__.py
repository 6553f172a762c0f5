"""Everything that draws: cost matrices, contact sheets, curves. Takes values and knows no run."""
