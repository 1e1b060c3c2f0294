//! The tables of the team that handlers work on, with the columns they cannot do without (spec 6).

use super::{TeamColumn, TeamTable};

macro_rules! team_tables {
    ($($(#[$about:meta])* $name:ident = $word:literal { $($column:ident $kind:ident $postgres:literal, $sqlite:literal;)+ })+) => {
        $($(#[$about])*
        pub static $name: TeamTable = TeamTable {
            name: $word,
            postgres: include_str!(concat!("../../../migrations/postgres/team/", $word, ".sql")),
            sqlite: include_str!(concat!("../../../migrations/sqlite/team/", $word, ".sql")),
            columns: &[$(TeamColumn::$kind(stringify!($column), $postgres, $sqlite)),+],
        };)+

        /// All of them.
        pub static ALL: &[&TeamTable] = &[$(&$name),+];
    };
}

team_tables! {
    /// Who is written to.
    CLIENTES = "clientes" {
        id new "uuid", "integer";
        telefone new "text", "text";
        primeiro_nome optional "text", "text";
        created_at optional "timestamptz not null default now()", "text";
    }
    /// Messages to people. Higher `prioridade` goes first.
    FILA_MENSAGENS = "fila_mensagens" {
        id new "uuid", "integer";
        cliente_id new "text", "text";
        conversa_id new "text", "text";
        telefone optional "text", "text";
        conteudo new "text", "text";
        tipo new "text not null default 'lembrete'", "text not null default 'lembrete'";
        prioridade new "integer not null default 5", "integer not null default 5";
        status new "text not null default 'pendente'", "text not null default 'pendente'";
        agendar_para new "timestamptz", "text";
        enviada_em new "timestamptz", "text";
        metadata new "jsonb not null default '{}'", "text not null default '{}'";
        created_at new "timestamptz not null default now()", "text";
        max_tentativas new "integer not null default 3", "integer not null default 3";
        tentativas new "integer not null default 0", "integer not null default 0";
        erro new "text", "text";
        processando_desde new "timestamptz", "text";
        outcome new "text", "text";
        outcome_reason_code new "text", "text";
        outcome_at new "timestamptz", "text";
        provider_message_id new "text", "text";
    }
    /// The same, for those who write to numbers that are no client's.
    FILA_MENSAGENS_WITH_NUMBERS = "fila_mensagens" {
        telefone new "text", "text";
    }
    /// Messages that were given up, as they stood; sent again by a person, or never.
    FILA_MENSAGENS_DLQ = "fila_mensagens_dlq" {
        id optional "uuid", "integer";
        mensagem_id new "text unique", "text";
        motivo new "text", "text";
        erro optional "text", "text";
        tentativas optional "integer not null default 0", "integer not null default 0";
        mensagem optional "jsonb not null default '{}'", "text not null default '{}'";
        created_at new "timestamptz not null default now()", "text";
        reenviada_em optional "timestamptz", "text";
    }
    /// How many messages were taken out of each limit's calendar hour or day, and when last. Bookkeeping of the daemon.
    OUTBOUND_LIMITS = "outbound_limits" {
        scope new "text", "text";
        opens_at new "timestamptz", "text";
        taken new "integer", "integer";
        taken_at new "timestamptz", "text";
    }
    /// Shifts that an outside recruiter was asked to confirm.
    EXTERNAL_HANDOFFS = "external_handoffs" {
        id new "uuid", "integer";
        vaga_id new "text", "text";
        cliente_id new "text", "text";
        divulgador_nome new "text", "text";
        divulgador_telefone new "text", "text";
        status new "text not null default 'pending'", "text not null default 'pending'";
        reserved_until new "timestamptz", "text";
        last_followup_at new "timestamptz", "text";
        followup_count new "integer not null default 0", "integer not null default 0";
        expired_at new "timestamptz", "text";
        created_at new "timestamptz not null default now()", "text";
        updated_at optional "timestamptz", "text";
    }
    /// Shifts that doctors take.
    VAGAS = "vagas" {
        id new "uuid", "integer";
        titulo optional "text", "text";
        data optional "date", "text";
        hora_inicio optional "time", "text";
        hora_fim optional "time", "text";
        status new "text not null default 'aberta'", "text not null default 'aberta'";
        cliente_id optional "text", "text";
        pendente_confirmacao_em optional "timestamptz", "text";
        created_at optional "timestamptz not null default now()", "text";
        updated_at optional "timestamptz", "text";
    }
    /// The same, for those who must know when a shift ends.
    VAGAS_WITH_TIMES = "vagas" {
        data new "date", "text";
        hora_inicio new "time", "text";
        hora_fim new "time", "text";
        pendente_confirmacao_em new "timestamptz", "text";
    }
    /// What happened to the business, each at most once.
    BUSINESS_EVENTS = "business_events" {
        id optional "uuid", "integer";
        event_type optional "text", "text";
        dedupe_key new "text unique", "text";
        cliente_id optional "text", "text";
        vaga_id optional "text", "text";
        event_props optional "jsonb not null default '{}'", "text not null default '{}'";
        created_at optional "timestamptz not null default now()", "text";
    }
    /// What came in while nobody was there.
    MENSAGENS_FORA_HORARIO = "mensagens_fora_horario" {
        id new "uuid", "integer";
        cliente_id new "text", "text";
        conversa_id new "text", "text";
        mensagem new "text", "text";
        recebida_em new "timestamptz not null default now()", "text";
        contexto optional "jsonb not null default '{}'", "text not null default '{}'";
        processada new "boolean not null default false", "integer not null default 0";
        processada_em new "timestamptz", "text";
        processada_resultado new "text", "text";
        inbound_message_id optional "text", "text";
    }
    /// The briefing as it was read, each time it had changed.
    BRIEFING_SYNC_LOG = "briefing_sync_log" {
        id new "uuid", "integer";
        doc_hash new "text", "text";
        doc_title optional "text", "text";
        conteudo_raw new "text", "text";
        etag optional "text", "text";
        origem_hash optional "text", "text";
        avisar_em optional "timestamptz", "text";
        created_at new "timestamptz not null default now()", "text";
    }
    /// Sections of the briefing, the newest text of each.
    DIRETRIZES = "diretrizes" {
        id optional "uuid", "integer";
        tipo new "text unique", "text";
        conteudo new "text", "text";
        doc_hash optional "text", "text";
        origem_hash optional "text", "text";
        updated_at optional "timestamptz", "text";
    }
    /// What is known of a lead: how warm it is, and when it may be talked to.
    DOCTOR_STATE = "doctor_state" {
        permission_state new "text not null default 'active'", "text not null default 'active'";
        cooling_off_until new "timestamptz", "text";
        temperature new "numeric(3, 2) not null default 0.50", "real not null default 0.50";
        temperature_trend new "text not null default 'stable'", "text not null default 'stable'";
        last_inbound_at new "timestamptz", "text";
        last_outbound_at new "timestamptz", "text";
        contact_count_7d new "integer not null default 0", "integer not null default 0";
        lifecycle_stage new "text not null default 'novo'", "text not null default 'novo'";
        last_decay_at new "timestamptz", "text";
    }
    /// The same, for those who only ask who wants to be left alone.
    PERMISSIONS = "doctor_state" {
        cliente_id new "text", "text";
        permission_state new "text not null default 'active'", "text not null default 'active'";
    }
}
