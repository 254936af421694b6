"""Server-Sent Events: from the log to many readers.

Order of reading: `subscription` (what one reader asked for), `feed` (the log's recent tail in memory), `sink` (where
bytes go), `control` (what a stream says on its own account), `reader` (catching up and live), `hub` (who gets which
event), `position` (where a stream begins).
"""
