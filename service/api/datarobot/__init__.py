"""The dialect of DataRobot's monitoring API: its paths, field names, paging, errors and formats, and nothing else."""
