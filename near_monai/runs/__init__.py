"""What a run over many cases keeps: its configuration, its records, and what is finished."""
