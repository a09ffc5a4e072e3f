#include "client/cli/grid.h"

#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include "client/text/text.h"

#define CELL_MAX 512

void grid_init(struct grid *grid, FILE *out, const char *const *headers)
{
	memset(grid, 0, sizeof(*grid));
	grid->out = out;
	grid->headers = headers;
	while (grid->columns < GRID_MAX_COLUMNS && headers[grid->columns] != NULL) {
		grid->widths[grid->columns] = text_width(headers[grid->columns]);
		grid->columns++;
	}
	grid->cells = calloc(GRID_ROWS * grid->columns, sizeof(*grid->cells));
	grid->failed = grid->cells == NULL;
}

static void drop_cells(struct grid *grid)
{
	for (size_t i = 0; i < grid->cell_count; i++) {
		free(grid->cells[i]);
		grid->cells[i] = NULL;
	}
	grid->cell_count = 0;
}

void grid_fini(struct grid *grid)
{
	drop_cells(grid);
	free(grid->cells);
	grid->cells = NULL;
}

void grid_cell(struct grid *grid, const char *format, ...)
{
	char raw[CELL_MAX];
	char safe[CELL_MAX];
	va_list args;

	if (grid->failed)
		return;
	if (grid->cell_count == GRID_ROWS * grid->columns && !grid_flush(grid))
		return;
	va_start(args, format);
	int n = vsnprintf(raw, sizeof(raw), format, args);
	va_end(args);
	size_t length = n < 0 ? 0 : (size_t)n < sizeof(raw) ? (size_t)n : sizeof(raw) - 1;
	text_escape(raw, length, safe, sizeof(safe));
	char *cell = strdup(safe[0] == '\0' ? "-" : safe);
	if (cell == NULL) {
		grid->failed = true;
		return;
	}
	size_t column = grid->cell_count % grid->columns;
	size_t width = text_width(cell);
	if (width > grid->widths[column])
		grid->widths[column] = width;
	grid->cells[grid->cell_count++] = cell;
	if (column + 1 == grid->columns)
		grid->rows_in_all++;
}

static void print_row(struct grid *grid, const char *const *cells)
{
	for (size_t i = 0; i < grid->columns; i++) {
		fputs(cells[i], grid->out);
		if (i + 1 < grid->columns)
			fprintf(grid->out, "%*s", (int)(grid->widths[i] - text_width(cells[i]) + 2),
				"");
	}
	fputc('\n', grid->out);
}

bool grid_flush(struct grid *grid)
{
	if (grid->failed)
		return false;
	if (!grid->headed && grid->cell_count > 0) {
		print_row(grid, grid->headers);
		grid->headed = true;
	}
	for (size_t i = 0; i + grid->columns <= grid->cell_count; i += grid->columns)
		print_row(grid, (const char *const *)&grid->cells[i]);
	drop_cells(grid);
	return !ferror(grid->out);
}
