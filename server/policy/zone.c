#include "server/policy/zone.h"

#include <glib.h>
#include <string.h>

/* A struct schedule_zone is a GTimeZone, which never changes and is counted atomically. */
struct schedule_zone *zone_new(const char *name)
{
	/* GLib takes "+01:00" too, and a path: the names of the database are what we promise. */
	if (name[0] == '/' || strstr(name, "..") || !g_ascii_isalpha(name[0]))
		return NULL;
	return (struct schedule_zone *)g_time_zone_new_identifier(name);
}

void zone_free(struct schedule_zone *zone)
{
	if (zone)
		g_time_zone_unref((GTimeZone *)zone);
}

int64_t zone_offset(const struct schedule_zone *zone, int64_t at_s)
{
	GTimeZone *tz = (GTimeZone *)(uintptr_t)zone;
	gint interval = g_time_zone_find_interval(tz, G_TIME_TYPE_UNIVERSAL, at_s);
	return g_time_zone_get_offset(tz, interval);
}
