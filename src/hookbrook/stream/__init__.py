"""Server-Sent Events: from the log to many readers.

Order of reading: `sink` (where bytes go), `subscription` (what one reader asked for), `pace` (when news leaves), `feed`
(the log's recent tail in memory), `control` (what a stream says on its own account), `reader` (catching up and live),
`audience` (those who asked for the same), `hub` (who gets which event), `position` (where a stream begins),
`connection` and `connections` (who is there).
"""
