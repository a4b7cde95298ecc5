"""The machinery that every engine shares: batches, streams, and the doors to sync and async."""
