#include "server/policy/ports.h"

#include <stdlib.h>
#include <string.h>

void ports_fini(struct ports *ports)
{
	free(ports->items);
	*ports = (struct ports){0};
}

static const char *parse_port(const char *text, uint16_t *ret_port)
{
	unsigned value = 0;
	const char *at = text;
	for (; *at >= '0' && *at <= '9' && at - text < 5; at++)
		value = value * 10 + (unsigned)(*at - '0');
	if (at == text || value == 0 || value > UINT16_MAX)
		return NULL;
	*ret_port = (uint16_t)value;
	return at;
}

static enum status parse(const char *text, struct port_range *ret_range, struct error *err)
{
	struct port_range range;
	const char *at = parse_port(text, &range.first);
	range.last = range.first;
	if (at && *at == '-')
		at = parse_port(at + 1, &range.last);
	if (!at || *at)
		return error_set(err, STATUS_INVALID_ARGUMENT,
			"\"%.60s\" is not a port or a range of ports: write 21 or 1024-65535",
			text);
	if (range.first > range.last)
		return error_set(err, STATUS_INVALID_ARGUMENT,
			"\"%.60s\" is reversed: the lower port comes first", text);
	*ret_range = range;
	return STATUS_OK;
}

static int compare(const void *a, const void *b)
{
	return ((const struct port_range *)a)->first - ((const struct port_range *)b)->first;
}

static void normalize(struct ports *ports)
{
	struct port_range *v = ports->items;
	size_t kept = 0;
	qsort(v, ports->count, sizeof *v, compare);
	for (size_t i = 1; i < ports->count; i++) {
		if (v[i].first <= v[kept].last + 1) {
			if (v[i].last > v[kept].last)
				v[kept].last = v[i].last;
		} else {
			v[++kept] = v[i];
		}
	}
	ports->count = kept + 1;
}

enum status ports_parse(const char *const *texts, size_t count, struct ports *ret_ports,
	size_t *ret_bad, struct error *err)
{
	struct ports ports = {0};
	if (count == 0) {
		*ret_ports = ports;
		return STATUS_OK;
	}
	ports.items = calloc(count, sizeof *ports.items);
	if (!ports.items)
		return error_set(err, STATUS_RESOURCE_EXHAUSTED, "out of memory");
	for (; ports.count < count; ports.count++) {
		enum status status = parse(texts[ports.count], &ports.items[ports.count], err);
		if (status) {
			*ret_bad = ports.count;
			ports_fini(&ports);
			return status;
		}
	}
	normalize(&ports);
	*ret_ports = ports;
	return STATUS_OK;
}

/* The first range that does not end before the port. */
static const struct port_range *find(const struct ports *ports, uint16_t port)
{
	size_t low = 0, high = ports->count;
	while (low < high) {
		size_t middle = low + (high - low) / 2;
		if (ports->items[middle].last < port)
			low = middle + 1;
		else
			high = middle;
	}
	return low < ports->count ? &ports->items[low] : NULL;
}

bool ports_cover(const struct ports *ports, uint16_t first, uint16_t last)
{
	const struct port_range *range = find(ports, first);
	return range && range->first <= first && last <= range->last;
}

bool ports_touch(const struct ports *ports, uint16_t first, uint16_t last)
{
	const struct port_range *range = find(ports, first);
	return range && range->first <= last;
}
