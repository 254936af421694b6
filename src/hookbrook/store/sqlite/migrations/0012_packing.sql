-- How many bytes `data` has once it is unpacked (LZ4 block format); NULL if it is stored as it is.
ALTER TABLE event ADD COLUMN packed INTEGER;
