/* Tables for people: aligned columns, bounded memory, peers' bytes made harmless. */
#ifndef POSTERN_CLI_GRID_H
#define POSTERN_CLI_GRID_H

#include <stdbool.h>
#include <stddef.h>
#include <stdio.h>

#define GRID_MAX_COLUMNS 12
#define GRID_ROWS 256 /* printed when so many are there: widths are theirs, and those before */

struct grid {
	FILE *out;
	const char *const *headers; /* NULL-terminated */
	size_t columns;
	size_t widths[GRID_MAX_COLUMNS];
	char **cells; /* rows * columns */
	size_t cell_count;
	size_t rows_in_all;
	bool headed;
	bool failed; /* memory was out */
};

void grid_init(struct grid *grid, FILE *out, const char *const *headers);
void grid_fini(struct grid *grid);
/* The next cell of the current row; "" shows as "-". */
void grid_cell(struct grid *grid, const char *format, ...) __attribute__((format(printf, 2, 3)));
/* Prints what is there; the headers first, once. False when `out` failed or memory was out. */
bool grid_flush(struct grid *grid);

#endif
