/* What systemd hears of the agent. */
#ifndef POSTERN_AGENT_NOTIFY_H
#define POSTERN_AGENT_NOTIFY_H

void notify_ready(void);
void notify_reloading(void); /* until the next notify_ready() */
void notify_stopping(void);
void notify_status(const char *format, ...) __attribute__((format(printf, 1, 2)));

#endif
