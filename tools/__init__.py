"""What the book is made and checked with; not part of the library."""
