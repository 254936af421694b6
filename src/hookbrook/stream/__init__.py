"""Server-Sent Events: from the log to many readers.

Order of reading: `sink` (where bytes go), `subscription` (what one reader asked for), `pace` (when news leaves),
`block` and `feed` (the log's recent tail in memory), `effects` (what the events in it did to their channels), `pages`
(what lies before it, read once for many), `control` (what a stream says on its own account), `reader` (catching up and
live), `audience` (those who asked for the same), `hub` (who gets which event), `deadlines` (when the right to listen
ends), `position` (where a stream begins), `connection` and `connections` (who is there).
"""
