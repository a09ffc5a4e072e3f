#include "agent/reports.h"

#include <stdlib.h>
#include <string.h>

void reports_init(struct reports *reports, size_t most)
{
	memset(reports, 0, sizeof *reports);
	reports->end = &reports->first;
	reports->most = most;
	reports->next_sequence = 1;
}

static void report_free(struct report *report)
{
	free(report->failures);
	free(report);
}

void reports_fini(struct reports *reports)
{
	while (reports->first) {
		struct report *report = reports->first;
		reports->first = report->next;
		report_free(report);
	}
	reports->end = &reports->first;
}

static bool is_bound_to_link(enum report_kind kind)
{
	return kind == REPORT_APPLIED || kind == REPORT_INVENTORY_BEGIN ||
		kind == REPORT_INVENTORY_FLOW || kind == REPORT_INVENTORY_END;
}

/* The server relies on an end that comes before APPLIED, and no inventory makes it good. */
static bool is_always_taken(enum report_kind kind)
{
	return is_bound_to_link(kind) || kind == REPORT_PRIMARY_ENDED;
}

struct report *reports_add(struct reports *reports, enum report_kind kind, int64_t at_us)
{
	struct report *report = NULL;
	if (reports->count < reports->most || is_always_taken(kind))
		report = calloc(1, sizeof *report);
	if (!report) {
		reports->dropped++;
		return NULL;
	}
	report->sequence = reports->next_sequence++;
	report->kind = kind;
	report->at_us = at_us;
	*reports->end = report;
	reports->end = &report->next;
	if (!reports->unsent)
		reports->unsent = report;
	reports->count++;
	return report;
}

void reports_acknowledge(struct reports *reports, uint64_t sequence)
{
	while (reports->first && reports->first->sequence <= sequence) {
		struct report *report = reports->first;
		reports->first = report->next;
		if (reports->unsent == report)
			reports->unsent = report->next;
		report_free(report);
		reports->count--;
	}
	if (!reports->first)
		reports->end = &reports->first;
}

void reports_rewind(struct reports *reports)
{
	struct report **at = &reports->first;
	while (*at) {
		struct report *report = *at;
		if (is_bound_to_link(report->kind)) {
			*at = report->next;
			report_free(report);
			reports->count--;
		} else {
			at = &report->next;
		}
	}
	reports->end = at;
	reports->unsent = reports->first;
}

void reports_again(struct reports *reports)
{
	reports->unsent = reports->first;
}

size_t reports_take(
	struct reports *reports, uint64_t last, const struct report **ret_reports, size_t most)
{
	size_t count = 0;
	while (reports->unsent && reports->unsent->sequence <= last && count < most) {
		ret_reports[count++] = reports->unsent;
		reports->unsent = reports->unsent->next;
	}
	return count;
}
