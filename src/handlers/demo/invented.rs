//! Names, numbers and texts that are nobody's.

/// Brazilian numbers are +55, an area code from 11 to 99 without a zero, and the subscriber. No area code is 00, and none
/// begins with 0, which leads to long distance: such a number can be given to nobody.
const NO_AREA: &str = "5500";

/// Nobody is called so.
const NAMES: [&str; 30] = [
    "Alvorina",
    "Bentazil",
    "Cirandela",
    "Dorvalume",
    "Estrelício",
    "Florindalva",
    "Girassolina",
    "Horizontino",
    "Ipezândra",
    "Jacarandino",
    "Lualinda",
    "Marezinho",
    "Nuvenilda",
    "Orvalhino",
    "Pitangueira",
    "Quaresmildo",
    "Relampinho",
    "Serenalva",
    "Trovoaldo",
    "Umbuzélia",
    "Ventaneiro",
    "Xaxinilda",
    "Zabumbélio",
    "Auroril",
    "Brisalva",
    "Cometino",
    "Dunália",
    "Encantildo",
    "Fagulhina",
    "Garoaldo",
];

/// There are no such places.
const PLACES: [&str; 8] = [
    "Hospital Fictício Lua Cheia",
    "UPA Imaginária do Vale",
    "Clínica Faz de Conta",
    "Hospital Inventado das Nuvens",
    "Pronto-Socorro Era Uma Vez",
    "Maternidade Sonho Bom",
    "Hospital Exemplo do Norte",
    "Clínica Modelo Arco-Íris",
];

const SPECIALTIES: [&str; 6] =
    ["Clínica Médica", "Pediatria", "Anestesiologia", "Ortopedia", "Cardiologia", "Ginecologia"];

const QUESTIONS: [&str; 7] = [
    "Boa noite! Ainda tem plantão no sábado?",
    "Oi, consigo trocar o plantão de quinta?",
    "Qual é o valor da diária na UPA Imaginária?",
    "Pode me ligar amanhã cedo?",
    "Enviei os documentos, chegaram?",
    "Tem vaga de pediatria esta semana?",
    "Obrigado, confirmo amanhã.",
];

/// The number of a client.
pub(super) fn number(client: usize) -> String {
    format!("{NO_AREA}9{client:08}")
}

pub(super) fn name(client: usize) -> &'static str {
    NAMES[client % NAMES.len()]
}

pub(super) fn place(index: usize) -> &'static str {
    PLACES[index % PLACES.len()]
}

pub(super) fn specialty(index: usize) -> &'static str {
    SPECIALTIES[index % SPECIALTIES.len()]
}

pub(super) fn question(index: usize) -> &'static str {
    QUESTIONS[index % QUESTIONS.len()]
}

/// A message to a client; each says that it is a demonstration, should one ever leave the house.
pub(super) fn text(tipo: &str, client: usize, index: usize) -> String {
    let (name, place, specialty) = (name(client), place(index), specialty(index));
    let body = match tipo {
        "resposta" => format!("sobre a sua pergunta: sim, a vaga de {specialty} ({place}) continua aberta."),
        "followup" => format!("conseguiu ver a vaga de {specialty} ({place})?"),
        "prospeccao" => format!("temos plantões de {specialty} ({place}). Quer receber os detalhes?"),
        "campanha" => format!("novas escalas de {specialty} ({place}) para o próximo mês."),
        "sistema" => format!("o seu cadastro ({place}) foi atualizado."),
        _ => format!("lembrete: o seu plantão de {specialty} ({place}) está chegando."),
    };
    format!("[demonstração] Olá, {name}! {}{}", body[..1].to_uppercase(), &body[1..])
}
