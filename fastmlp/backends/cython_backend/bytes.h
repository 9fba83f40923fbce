/* Byte-valued numbers. Part of engine_body.h. */

typedef struct {
    const REAL *values;
    int64_t n;
    uint8_t *bytes;
    REAL *table;
    REAL divisor;
    atomic_int failed;
} NAME(recoding_work);

/* The byte that a number is if it is one divided by the divisor; else any. */
static inline uint8_t NAME(byte_of)(REAL value, REAL divisor)
{
    REAL byte = value * divisor + (REAL)0.5;
    byte = byte < 0 ? 0 : byte;
    byte = byte < 255 ? byte : 255;  /* NaN too, which no table has */
    return (uint8_t)(int32_t)byte;
}

static void NAME(recode_member)(void *context, int thread, barrier *meeting)
{
    NAME(recoding_work) *w = context;
    const int64_t piece = 1 << 12;
    for (int64_t at = thread * piece; at < w->n; at += piece * meeting->n_threads) {
        int64_t n = w->n - at < piece ? w->n - at : piece;
        const REAL *restrict values = w->values + at, *restrict table = w->table;
        const REAL divisor = w->divisor;
        uint8_t *restrict bytes = w->bytes + at;
        int differs = 0;
        for (int64_t i = 0; i < n; i++)
            bytes[i] = NAME(byte_of)(values[i], divisor);
        for (int64_t i = 0; i < n; i++)
            differs |= table[bytes[i]] != values[i];
        if (differs)
            atomic_store(&w->failed, 1);
        if (atomic_load(&w->failed))
            return;
    }
}

static int NAME(recode)(const void *values, int64_t n, int n_threads, uint8_t *bytes, void *table)
{
    static const REAL divisors[] = {1, 255, 256, 16};
    const int64_t n_seen = n < 1 << 16 ? n : 1 << 16;
    for (size_t d = 0; d < sizeof(divisors) / sizeof(divisors[0]); d++) {
        NAME(recoding_work) w = {.values = values, .n = n, .bytes = bytes, .table = table,
                                 .divisor = divisors[d]};
        atomic_init(&w.failed, 0);
        for (int i = 0; i < 256; i++)
            w.table[i] = (REAL)i / w.divisor;
        /* Whoever has multiplied by 1 / 255 instead got other last digits: the data tell. */
        for (int64_t i = 0; i < n_seen; i++) {
            REAL value = w.values[i * (n / n_seen)];
            REAL *entry = &w.table[NAME(byte_of)(value, w.divisor)];
            if (value > *entry * (1 - 2 * REAL_EPSILON) && value < *entry * (1 + 2 * REAL_EPSILON))
                *entry = value;
        }
        team_mood mood = {0};
        team_run(NAME(recode_member), &w, n_threads, &mood);
        if (!atomic_load(&w.failed))
            return 1;
    }
    return 0;
}
