#include "server/grants/tuple.h"

/* The client opens: what answers go to is its outer end. */
static struct flow turn_outbound(const struct told_flow *told)
{
	struct flow flow = told->flow;
	if (told->translated && !endpoint_equal(&told->reply_destination, &flow.client))
		flow.external = told->reply_destination;
	return flow;
}

/* The remote opens: whom it meant is the client's outer end, who answers is the client. */
static struct flow turn_inbound(const struct told_flow *told)
{
	const struct flow *from = &told->flow;
	struct flow flow = *from;
	flow.remote = from->client;
	flow.client = told->translated ? told->reply_source : from->remote;
	if (!endpoint_equal(&flow.client, &from->remote))
		flow.external = from->remote;
	flow.packets_sent = from->packets_received;
	flow.bytes_sent = from->bytes_received;
	flow.packets_received = from->packets_sent;
	flow.bytes_received = from->bytes_sent;
	return flow;
}

struct flow flow_turn(const struct told_flow *told, bool inbound)
{
	return inbound ? turn_inbound(told) : turn_outbound(told);
}
