#include <criterion/criterion.h>
#include <stdlib.h>
#include <string.h>

#include "client/cli/grid.h"

static char *text;
static size_t size;

static void begin(struct grid *grid, const char *const *headers)
{
	grid_init(grid, open_memstream(&text, &size), headers);
}

static void end(struct grid *grid)
{
	cr_assert(grid_flush(grid));
	fclose(grid->out);
	grid_fini(grid);
}

static const char *const headers[] = {"NAME", "LEFT", "NOTE", NULL};

Test(grid, columns_are_aligned)
{
	struct grid grid;

	begin(&grid, headers);
	grid_cell(&grid, "%s", "a");
	grid_cell(&grid, "%d \xc2\xb5s", 85);
	grid_cell(&grid, "%s", "");
	grid_cell(&grid, "%s", "longer");
	grid_cell(&grid, "1 s");
	grid_cell(&grid, "%s", "\x1b[2J");
	end(&grid);
	cr_assert_str_eq(text,
		"NAME    LEFT   NOTE\n"
		"a       85 \xc2\xb5s  -\n"
		"longer  1 s    \\x1b[2J\n");
	free(text);
}

Test(grid, nothing_prints_nothing)
{
	struct grid grid;

	begin(&grid, headers);
	end(&grid);
	cr_assert_eq(size, 0);
	free(text);
}

/* Memory stays bounded, whatever the server sends. */
Test(grid, many_rows_are_printed_on_the_way)
{
	struct grid grid;

	begin(&grid, headers);
	for (int i = 0; i < 3 * GRID_ROWS + 1; i++)
		for (int column = 0; column < 3; column++)
			grid_cell(&grid, "%d", i);
	cr_assert_leq(grid.cell_count, (size_t)GRID_ROWS * 3);
	cr_assert_eq(grid.rows_in_all, (size_t)3 * GRID_ROWS + 1);
	end(&grid);
	size_t lines = 0;
	for (const char *p = text; *p != '\0'; p++)
		lines += *p == '\n';
	cr_assert_eq(lines, (size_t)3 * GRID_ROWS + 2, "the headers once");
	free(text);
}
